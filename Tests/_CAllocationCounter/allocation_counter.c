#include "allocation_counter.h"

#include <errno.h>
#include <features.h>
#include <malloc.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
    __has_feature(memory_sanitizer)
#define UKEHI_SANITIZED 1
#endif
#endif

#if defined(__GLIBC__) && !defined(UKEHI_SANITIZED)

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static __thread uint64_t count __attribute__((tls_model("initial-exec")));
static __thread int64_t bytes __attribute__((tls_model("initial-exec")));

static void *counted(void *block) {
  if (block) {
    count += 1;
    bytes += (int64_t)malloc_usable_size(block) + 8;
  }
  return block;
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }
void *calloc(size_t number, size_t size) { return counted(__libc_calloc(number, size)); }
void *memalign(size_t alignment, size_t size) {
  return counted(__libc_memalign(alignment, size));
}
void *aligned_alloc(size_t alignment, size_t size) {
  return counted(__libc_memalign(alignment, size));
}
int posix_memalign(void **block, size_t alignment, size_t size) {
  void *made = counted(__libc_memalign(alignment, size));
  if (!made) return ENOMEM;
  *block = made;
  return 0;
}
void *realloc(void *block, size_t size) {
  int64_t before = block ? (int64_t)malloc_usable_size(block) + 8 : 0;
  void *made = __libc_realloc(block, size);
  if (made || size == 0) bytes -= before;
  return counted(made);
}
void free(void *block) {
  if (block) bytes -= (int64_t)malloc_usable_size(block) + 8;
  __libc_free(block);
}

int ukehi_counts_allocations(void) { return 1; }
uint64_t ukehi_allocation_count(void) { return count; }
int64_t ukehi_allocated_bytes(void) { return bytes; }

#else

int ukehi_counts_allocations(void) { return 0; }
uint64_t ukehi_allocation_count(void) { return 0; }
int64_t ukehi_allocated_bytes(void) { return 0; }

#endif
