/* The functions that Python calls, and what they promise.
 *
 * All take hostile input: no length is trusted that was not checked against the buffer it is of, and none
 * keeps a pointer after it returned. They know nothing of Python and may run beside each other in threads.
 * A function that can fail returns one of the codes below; `kernel.py` makes exceptions of them.
 */
#ifndef TRAILHAWK_KERNEL_H
#define TRAILHAWK_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define KERNEL_API __attribute__((visibility("default")))

enum {
    KERNEL_DONE = 0,
    KERNEL_NO_MEMORY = -1, /* MemoryError */
    KERNEL_BAD_INPUT = -2, /* ValueError: offsets or lengths that cannot be */
};

/* The digest of the sources this object was made of. */
KERNEL_API extern const char kernel_mark[];

/* --- terms.c: the index over the terms of texts, see `lake/terms.py` ------------------------------------ */

enum { TERMS_UNSURE = 1 };

/* The terms of a row group, each once. Not for two threads at once. */
struct terms;

/* An empty set, NULL where there is no memory. `secret` is random, so that nobody can write logs whose terms
 * all come to lie in one place. */
KERNEL_API struct terms *terms_new(uint64_t secret);

KERNEL_API void terms_free(struct terms *set);

/* Add the terms of `count` values: value n lies in the `size` bytes of `data` from offsets[n] to
 * offsets[n + 1], so there are count + 1 offsets. It is left out where bit first + n of `valid` is 0, the
 * lowest bit of a byte first; with no byte there all values count. TERMS_UNSURE where a character equals an
 * ASCII letter when case is ignored. After that, and after an error, the set is only to be freed. */
KERNEL_API int terms_add(struct terms *set, const uint8_t *data, int64_t size, const int32_t *offsets,
                         int64_t count, const uint8_t *valid, int64_t valid_bytes, int64_t first);

/* How many hashes there are. */
KERNEL_API int64_t terms_count(const struct terms *set);

/* Write the hashes, in no order; `count` is as many as there are. */
KERNEL_API int terms_take(const struct terms *set, uint64_t *hashes, int64_t count);

/* Set the bits of these hashes in the pages of a filter, page_count * page_bytes zeros. The last four bytes
 * of each page are left for its CRC-32. */
KERNEL_API int terms_fill(const uint64_t *hashes, int64_t count, uint8_t *pages, int64_t page_count,
                          int64_t page_bytes);

#endif
