// Counts heap allocations of the calling thread, by standing in for the C library's functions.

#ifndef UKEHI_ALLOCATION_COUNTER_H
#define UKEHI_ALLOCATION_COUNTER_H

#include <stdint.h>

/// Whether allocations are counted in this build: not with a C library other than glibc, and not
/// under a sanitizer, which stands in for the same functions.
int ukehi_counts_allocations(void);

/// Allocations of this thread so far; a `realloc` counts as one.
uint64_t ukehi_allocation_count(void);

/// Bytes that this thread holds: allocated less freed, each as large as the allocator made it, with
/// its 8 bytes of bookkeeping. Blocks freed by another thread are not taken off.
int64_t ukehi_allocated_bytes(void);

#endif
