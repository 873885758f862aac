/* What the object says of itself. */
#include "kernel.h"

#ifndef KERNEL_MARK
#error "build.py compiles these files, and says what they are"
#endif

const char kernel_mark[] = KERNEL_MARK;
