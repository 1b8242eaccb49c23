/* What is written to memory: copies, memsets, and the kernels that fill a tensor. All of it is the host's memory, so
   the kind of a copy does not matter. */

#include "cuda.h"

enum { PIECE = 8 << 20, WIDEST = 16 }; /* bytes */

static int copy(void *to, const void *from, size_t size) {
  if (size && to != from) memmove(to, from, size);
  return OK;
}

/* Write a value of `width` bytes over and over. */
static void repeat(char *to, const void *value, size_t width, size_t size) {
  if (size < width) return;
  memcpy(to, value, width);
  for (size_t done = width, step; done < size; done += step) { /* from a piece that stays in the processor's cache */
    step = done < 65536 ? done : 65536 / width * width;
    memcpy(to + done, to, step = step < size - done ? step : size - done);
  }
}

/* A file in memory that holds that value for PIECE bytes, the last one again where it is the same; -1: there is none. */
static int piece_of(const void *value, size_t width) {
  static int file = -1;
  static char held[WIDEST];
  char wanted[WIDEST];
  repeat(wanted, value, width, WIDEST);
  if (file >= 0 && !memcmp(held, wanted, WIDEST)) return file;
  if (file >= 0) close(file); /* what is mapped of it stays */
  file = memfd_create("played-cuda", MFD_CLOEXEC);
  if (file < 0) return -1;
  char *at = ftruncate(file, PIECE) ? MAP_FAILED : mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) return close(file), file = -1;
  repeat(at, wanted, WIDEST, PIECE);
  munmap(at, PIECE);
  memcpy(held, wanted, WIDEST);
  return file;
}

/* Lay that file, or fresh zeros, over whole pages: what is filled takes no room on the host, and no time, until it is
   written to. Returns whether that went. */
static int lay(char *from, const char *to, const void *value, size_t width) {
  static const char zeros[WIDEST];
  int zero = !memcmp(value, zeros, width), file = zero ? -1 : piece_of(value, width);
  if (!zero && file < 0) return 0;
  for (size_t step; from < to; from += step) {
    size_t left = (size_t)(to - from);
    step = zero || left < PIECE ? left : PIECE;
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (zero ? MAP_ANONYMOUS : 0);
    if (mmap(from, step, PROT_READ | PROT_WRITE, flags, file, 0) == MAP_FAILED) return 0;
  }
  return 1;
}

/* Fill memory with a value of `width` bytes, a power of two up to WIDEST. */
static int fill(char *to, const void *value, size_t width, size_t size) {
  uintptr_t at = (uintptr_t)to, first = (at + PAGE - 1) / PAGE * PAGE, last = (at + size) / PAGE * PAGE;
  take();
  const region *found = region_of(to);
  int laid = first < last && at % width == 0 && found && found->kind == DEVICE &&
             lay((char *)first, (const char *)last, value, width);
  give();
  if (!laid) return repeat(to, value, width, size), OK;
  repeat(to, value, width, first - at);
  repeat((char *)last, value, width, at + size - last);
  return OK;
}

static int fill_bytes(void *to, int value, size_t size) {
  unsigned char byte = (unsigned char)value;
  return fill(to, &byte, 1, size);
}

API int cudaMemcpy(void *to, const void *from, size_t size, int kind) { (void)kind; return copy(to, from, size); }
API int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *s) { (void)kind, (void)s; return copy(to, from, size); }
API int cudaMemcpyPeerAsync(void *to, int there, const void *from, int here, size_t size, void *s) {
  (void)there, (void)here, (void)s;
  return copy(to, from, size);
}
API int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t pitch, size_t width, size_t height, int kind, void *s) {
  (void)kind, (void)s;
  for (size_t row = 0; row < height; row++) copy(to + row * to_pitch, from + row * pitch, width);
  return OK;
}
API int cudaMemset(void *to, int value, size_t size) { return fill_bytes(to, value, size); }
API int cudaMemsetAsync(void *to, int value, size_t size, void *s) { (void)s; return fill_bytes(to, value, size); }
API int cuMemsetD32Async(char *to, unsigned value, size_t count, void *s) {
  (void)s;
  return fill(to, &value, sizeof value, sizeof value * count);
}

/* Kernels, known by the address of their host side. The only ones that are run fill a whole tensor with a value:
   vectorized_elementwise_kernel and unrolled_elementwise_kernel with a FillFunctor (ATen/native/cuda/FillKernel.cu, of
   PyTorch 2.14), whose first arguments are the number of elements, the value and the address. */

enum { FILLS = 512 };
static struct { const void *function; int size; } fills[FILLS];
static size_t fill_count;

/* Bytes of an element, from the type's mangled name; 0 for a type that is not known. */
static int size_of(const char *type) {
  static const struct { const char *name; int size; } known[] = {
    {"a", 1}, {"b", 1}, {"h", 1}, {"s", 2}, {"t", 2}, {"i", 4}, {"j", 4}, {"f", 4}, {"l", 8}, {"m", 8}, {"d", 8},
    {"N3c104HalfE", 2}, {"N3c108BFloat16E", 2}, {"N3c107complexIfE", 8}, {"N3c107complexIdE", 16}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strncmp(type, known[i].name, strlen(known[i].name))) return known[i].size;
  return 0;
}

API void __cudaRegisterFunction(void **handle, const void *function, char *device_side, const char *name) {
  (void)handle, (void)device_side;
  const char *functor = strstr(name, "11FillFunctorI");
  int size = functor ? size_of(functor + strlen("11FillFunctorI")) : 0;
  if (!size || fill_count == FILLS || strncmp(name, "_ZN2at6native", 13)) return;
  if (strncmp(name + 13, "29vectorized_elementwise_kernel", 31) && strncmp(name + 13, "27unrolled_elementwise_kernel", 29)) return;
  fills[fill_count].function = function;
  fills[fill_count++].size = size;
}

static int launch(const void *function, void **arguments) {
  for (size_t i = 0; i < fill_count; i++) {
    if (fills[i].function != function) continue;
    size_t width = (size_t)fills[i].size;
    return fill(*(char **)arguments[2], arguments[1], width, (size_t)*(int *)arguments[0] * width);
  }
  return OK;
}

API int cudaLaunchKernel(const void *function, extent grid, extent block, void **arguments, size_t shared, void *s) {
  (void)grid, (void)block, (void)shared, (void)s;
  return launch(function, arguments);
}
API int __cudaLaunchKernel(const void *kernel, extent grid, extent block, void **arguments, size_t shared, void *s) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, s);
}

typedef struct { size_t shared, constant, local; int threads, registers, ptx, binary, cache, max_shared, carveout, cluster[5]; } function_attributes;

API int cudaFuncGetAttributes(function_attributes *told, const void *function) {
  (void)function;
  *told = (function_attributes){.threads = 1024, .registers = 32, .ptx = 10 * MAJOR, .binary = 10 * MAJOR, .max_shared = 166912};
  return OK;
}
API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *function, int block, size_t shared) {
  (void)function, (void)block, (void)shared;
  *count = 2;
  return OK;
}
API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *function, int block, size_t shared, unsigned flags) {
  (void)flags;
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(count, function, block, shared);
}
API void **__cudaRegisterFatBinary(void *binary) { static void *handle; (void)binary; return &handle; }
API int __cudaGetKernel(const void **kernel, const void *function) { *kernel = function; return OK; }
API int cudaGetSymbolAddress(void **pointer, const void *symbol) { static char nothing[1 << 16]; (void)symbol; *pointer = nothing; return OK; }

