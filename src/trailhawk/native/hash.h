/* What other sources of the kernel take from hash.c. */
#ifndef TRAILHAWK_HASH_H
#define TRAILHAWK_HASH_H

#include "kernel.h"

/* XXH3 of 64 bits. */
uint64_t xxh3(const uint8_t *text, size_t length);

#endif
