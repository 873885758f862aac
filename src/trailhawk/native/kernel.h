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

#endif
