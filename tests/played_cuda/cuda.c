/* A stand-in for NVIDIA's CUDA runtime (libcudart.so.13) and driver (libcuda.so.1), without a GPU.

   Memory of the device is memory of the host, taken from the system only where it is touched, and counted in the
   ledger (ledger.h) against the capacity that the scenario says. Copies and memsets are done, and so is what
   torch.ones and torch.full launch; other kernels are not: a launch succeeds and changes nothing. So what PyTorch
   computes on it is meaningless, and all that it allocates, caches, frees, reports and refuses is real. Only what
   PyTorch calls is here; build.py adds what it merely links to.

   Structures and numbers follow CUDA 13's public headers; those of 12 differ in cudaDeviceProp. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <strings.h>

#include "ledger.h"

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INITIALIZATION_ERROR = 3, INSUFFICIENT_DRIVER = 35, NO_DEVICE = 100,
       INVALID_DEVICE = 101, NOT_READY = 600, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_UNMATCHED = 903 };
enum { UNREGISTERED = 0, HOST = 1, DEVICE = 2 };
enum { MAX_DEVICES = 64, VERSION = 13000, MAJOR = 8, MINOR = 0, PROCESSORS = 108 };
#define MIB (1ull << 20)
#define PAGE (2 * MIB) /* the driver gives memory in such pieces */
#define API __attribute__((visibility("default")))

typedef unsigned long long bytes;
typedef struct { char *at; bytes size, charged; int kind, device; } region;
typedef struct stream { int priority, capturing; bytes capture; } stream;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all that is static here */
static region *regions;                                  /* what was allocated, in no order */
static size_t region_count, region_room;
static played_gpu gpus[MAX_DEVICES]; /* those that CUDA shows, in its order */
static int places[MAX_DEVICES];      /* each one's place in the scenario */
static int gpu_count = -1;
static unsigned char active[MAX_DEVICES]; /* whether this process has a context there */
static bytes captures;
static __thread int current, last_error;

static void take(void) { pthread_mutex_lock(&lock); }
static void give(void) { pthread_mutex_unlock(&lock); }

/* A child that is forked has no context, and nothing in the ledger. */
static void forget(void) { memset(active, 0, sizeof active), region_count = 0, give(); }
__attribute__((constructor)) static void survive_forks(void) { pthread_atfork(take, give, forget); }

static int said(int code) {
  if (code) last_error = code;
  return code;
}

/* Devices */

/* Whether a word of CUDA_VISIBLE_DEVICES means the GPU of that number. */
static int chosen(const char *word, size_t length, int number, const played_gpu *row) {
  char *end;
  if (!strncmp(word, "GPU-", 4) || !strncmp(word, "MIG-", 4)) return !strncmp(row->uuid, word, length);
  long wanted = strtol(word, &end, 10);
  return end != word && wanted == number;
}

/* Fill `gpus` by the scenario and CUDA_VISIBLE_DEVICES, once. One MIG device at most is shown, and no GPU beside it. */
static int count_devices(void) {
  played_gpu rows[MAX_DEVICES];
  int found[MAX_DEVICES], count = 0;
  if (gpu_count >= 0) return gpu_count;
  for (int place = 0; count < MAX_DEVICES && played_row(place, &rows[count]); place++)
    if (!(rows[count].mig && rows[count].parent < 0)) found[count++] = place; /* a GPU in parts is not shown whole */
  gpu_count = 0;
  const char *word = getenv("CUDA_VISIBLE_DEVICES");
  for (int i = 0; !word && i < count; i++) gpus[gpu_count] = rows[i], places[gpu_count++] = found[i];
  while (word && *word && gpu_count < MAX_DEVICES) {
    size_t length = strcspn(word, ",");
    int i = 0;
    while (i < count && !chosen(word, length, i, &rows[i])) i++;
    if (i == count) break; /* the list ends at what is not there */
    gpus[gpu_count] = rows[i], places[gpu_count++] = found[i];
    word += length + (word[length] == ',');
  }
  for (int i = 0; i < gpu_count; i++)
    if (gpus[i].parent >= 0) gpus[0] = gpus[i], places[0] = places[i], gpu_count = 1;
  return gpu_count;
}

static int device_is(int device) {
  take();
  int there = device >= 0 && device < count_devices();
  give();
  return there;
}

/* Memory, counted. The caller holds `lock`; the ledger's own lock keeps other processes out. */

/* What running processes hold of it, this one too. */
static bytes ledger_sum(int place) {
  bytes sum = 0;
  const ledger_row *rows = ledger_open(0, NULL);
  for (int i = 0; rows && i < LEDGER_ROWS; i++)
    if (rows[i].held && (int)rows[i].place == place && ledger_counts(&rows[i])) sum += rows[i].held;
  return sum;
}

static bytes free_bytes(int device) {
  played_gpu row = gpus[device];
  played_row(places[device], &row); /* the scenario may have changed */
  bytes taken = row.taken + ledger_sum(places[device]);
  return taken < row.capacity ? row.capacity - taken : 0;
}

/* Write down that this process holds so much more, or less, of a device. */
static int charge(int device, long long size) {
  int file, code = OK;
  ledger_row *rows = ledger_open(1, &file), *own = NULL, *room = NULL;
  unsigned pid = (unsigned)getpid();
  if (!rows) return INITIALIZATION_ERROR;
  flock(file, LOCK_EX);
  for (int i = 0; i < LEDGER_ROWS; i++) {
    if (rows[i].pid && !ledger_counts(&rows[i])) memset(&rows[i], 0, sizeof rows[i]);
    if (!rows[i].pid && !room) room = &rows[i];
    if (rows[i].pid == pid && (int)rows[i].place == places[device]) own = &rows[i];
  }
  if (size > 0 && free_bytes(device) < (bytes)size) code = OUT_OF_MEMORY;
  else if (own) own->held += (bytes)size;
  else if (room && size > 0) *room = (ledger_row){pid, (unsigned)places[device], ledger_born(pid), (bytes)size};
  else code = OUT_OF_MEMORY;
  flock(file, LOCK_UN);
  return code;
}

/* Begin to use a device: that makes the context, which takes memory of its own. */
static int use(int device) {
  if (device < 0 || device >= count_devices()) return INVALID_DEVICE;
  if (active[device]) return OK;
  int code = gpus[device].context ? charge(device, (long long)gpus[device].context) : OK;
  active[device] = code == OK;
  return code;
}

static region *region_of(const void *pointer) {
  for (size_t i = region_count; i-- > 0;)
    if ((const char *)pointer >= regions[i].at && (const char *)pointer < regions[i].at + regions[i].size) return &regions[i];
  return NULL;
}

static void remember(void *at, bytes size, bytes charged, int kind, int device) {
  if (region_count == region_room) {
    region_room = region_room ? 2 * region_room : 256;
    regions = realloc(regions, region_room * sizeof *regions);
  }
  regions[region_count++] = (region){at, size, charged, kind, device};
}

static int allocate(void **pointer, bytes size, int kind) {
  bytes whole = (size + PAGE - 1) / PAGE * PAGE, charged = kind == DEVICE ? whole : 0;
  *pointer = NULL;
  if (!size) return OK;
  take();
  int code = use(current);
  if (!code && charged) code = charge(current, (long long)charged);
  if (!code) {
    void *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
      code = OUT_OF_MEMORY;
      if (charged) charge(current, -(long long)charged);
    } else {
      madvise(at, whole, MADV_HUGEPAGE); /* three times faster to fill */
      remember(*pointer = at, whole, charged, kind, current);
    }
  }
  give();
  return said(code);
}

static int release(void *pointer) {
  if (!pointer) return OK;
  take();
  region *found = region_of(pointer);
  int code = found && found->at == pointer ? OK : INVALID_VALUE;
  if (!code) {
    munmap(found->at, found->size);
    if (found->charged) charge(found->device, -(long long)found->charged);
    *found = regions[--region_count];
  }
  give();
  return said(code);
}

API int cudaMalloc(void **pointer, size_t size) { return allocate(pointer, size, DEVICE); }
API int cudaFree(void *pointer) { return release(pointer); }
API int cudaMallocAsync(void **pointer, size_t size, void *s) { (void)s; return allocate(pointer, size, DEVICE); }
API int cudaFreeAsync(void *pointer, void *s) { (void)s; return release(pointer); }
API int cudaHostAlloc(void **pointer, size_t size, unsigned flags) { (void)flags; return allocate(pointer, size, HOST); }
API int cudaFreeHost(void *pointer) { return release(pointer); }

API int cudaHostRegister(void *pointer, size_t size, unsigned flags) {
  (void)flags;
  take();
  int code = use(current);
  if (!code) remember(pointer, size, 0, HOST, current);
  give();
  return said(code);
}

API int cudaHostUnregister(void *pointer) {
  take();
  region *found = region_of(pointer);
  if (found) *found = regions[--region_count];
  give();
  return said(found ? OK : INVALID_VALUE);
}

API int cudaMemGetInfo(size_t *left, size_t *whole) {
  take();
  int code = use(current);
  *left = code ? 0 : free_bytes(current);
  *whole = code ? 0 : gpus[current].capacity;
  give();
  return said(code);
}

typedef struct { int type, device; void *device_pointer, *host_pointer; long reserved[8]; } pointer_attributes;

API int cudaPointerGetAttributes(pointer_attributes *told, const void *pointer) {
  take();
  region *found = region_of(pointer);
  *told = (pointer_attributes){found ? found->kind : UNREGISTERED, found ? found->device : -2, NULL, NULL, {0}};
  if (found) told->device_pointer = (void *)pointer, told->host_pointer = found->kind == HOST ? (void *)pointer : NULL;
  give();
  return OK;
}

/* Memory, filled. All of it is the host's, so the kind of a copy does not matter. */

static int copy(void *to, const void *from, size_t size) {
  if (size && to != from) memmove(to, from, size);
  return OK;
}

/* Zeros are given back to the system, which gives fresh ones when they are read: they take no room on the host. */
static int fill(void *to, int value, size_t size) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)to + page - 1) / page * page;
  uintptr_t end = (uintptr_t)to + size, last = end / page * page;
  if (value || first >= last || madvise((void *)first, last - first, MADV_DONTNEED)) return memset(to, value, size), OK;
  memset(to, 0, first - (uintptr_t)to);
  memset((void *)last, 0, end - last);
  return OK;
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
API int cudaMemset(void *to, int value, size_t size) { return fill(to, value, size); }
API int cudaMemsetAsync(void *to, int value, size_t size, void *s) { (void)s; return fill(to, value, size); }
API int cuMemsetD32Async(char *to, unsigned value, size_t count, void *s) {
  (void)s;
  if (!value) return fill(to, 0, 4 * count);
  for (size_t i = 0; i < count; i++) memcpy(to + 4 * i, &value, 4);
  return OK;
}

/* Virtual memory, which PyTorch's expandable segments are made of: a range, and pieces that are mapped into it */

typedef struct { bytes size; int device; } piece;
typedef struct { int type, handle_types, location_type, device; } piece_wish; /* the head of CUmemAllocationProp */

API int cuMemAddressReserve(void **pointer, size_t size, size_t alignment, void *wish, bytes flags) {
  (void)alignment, (void)wish, (void)flags;
  char *at = mmap(NULL, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return OUT_OF_MEMORY;
  *pointer = (void *)(((uintptr_t)at + PAGE - 1) / PAGE * PAGE);
  return OK;
}
API int cuMemAddressFree(void *pointer, size_t size) { return munmap(pointer, size) ? INVALID_VALUE : OK; }
API int cuMemCreate(piece **made, size_t size, const piece_wish *wish, bytes flags) {
  (void)flags;
  take();
  int code = use(wish->device);
  if (!code) code = charge(wish->device, (long long)size);
  give();
  if (code) return code;
  *made = malloc(sizeof **made);
  **made = (piece){size, wish->device};
  return OK;
}
API int cuMemRelease(piece *made) {
  take();
  charge(made->device, -(long long)made->size);
  give();
  free(made);
  return OK;
}
API int cuMemMap(void *pointer, size_t size, size_t offset, piece *made, bytes flags) {
  (void)offset, (void)flags;
  if (mprotect(pointer, size, PROT_READ | PROT_WRITE)) return OUT_OF_MEMORY;
  take();
  remember(pointer, size, 0, DEVICE, made->device);
  give();
  return OK;
}
API int cuMemUnmap(char *pointer, size_t size) {
  madvise(pointer, size, MADV_DONTNEED);
  mprotect(pointer, size, PROT_NONE);
  take();
  for (size_t i = region_count; i-- > 0;)
    if (regions[i].at >= pointer && regions[i].at < pointer + size) regions[i] = regions[--region_count];
  give();
  return OK;
}
API int cuMemSetAccess(void *pointer, size_t size, const void *wish, size_t count) { (void)pointer, (void)size, (void)wish, (void)count; return OK; }
API int cuMemGetAllocationGranularity(size_t *size, const void *wish, int option) { (void)wish, (void)option; *size = PAGE; return OK; }
API int cuMemGetAddressRange(void **base, size_t *size, void *pointer) {
  take();
  region *found = region_of(pointer);
  if (found) *base = found->at, *size = found->size;
  give();
  return found ? OK : INVALID_VALUE;
}

/* Devices, told */

typedef struct { /* of CUDA 13 */
  char name[256]; unsigned char uuid[16]; char luid[8]; unsigned luid_mask; size_t capacity, shared_per_block;
  int registers_per_block, warp; size_t pitch; int threads_per_block, threads[3], grid[3]; size_t constant;
  int major, minor; size_t texture_alignment, texture_pitch_alignment; int processors, integrated, maps_host;
  int textures[39]; size_t surface_alignment; int concurrent, ecc, bus, slot, domain, tcc, engines, unified, bus_width, l2,
  l2_persisting, threads_per_processor, priorities, global_l1, local_l1; size_t shared_per_processor;
  int registers_per_processor, managed, multi, multi_group, host_atomics, pageable, concurrent_managed, preemption,
  host_pointers, cooperative; size_t shared_opt_in; int tables, direct, blocks_per_processor, window;
  size_t shared_reserved; int rest[20 + 56];
} properties;
_Static_assert(sizeof(properties) == 1008, "cudaDeviceProp of CUDA 13");

static void fill_uuid(unsigned char uuid[16], const char *text) {
  int digits = 0;
  memset(uuid, 0, 16);
  for (text += strncmp(text, "GPU-", 4) && strncmp(text, "MIG-", 4) ? 0 : 4; *text && digits < 32; text++) {
    const char *at = strchr("0123456789abcdef", *text | 32);
    if (*text == '-' || !at) continue;
    uuid[digits / 2] |= (unsigned char)((at - "0123456789abcdef") << (digits % 2 ? 0 : 4));
    digits++;
  }
}

API int cudaGetDeviceCount(int *count) {
  take();
  *count = count_devices();
  give();
  return said(*count ? OK : NO_DEVICE);
}

API int cudaGetDeviceProperties(properties *told, int device) {
  if (!device_is(device)) return said(INVALID_DEVICE);
  const played_gpu *row = &gpus[device];
  memset(told, 0, sizeof *told);
  snprintf(told->name, sizeof told->name, "%s", row->name);
  fill_uuid(told->uuid, row->uuid);
  told->capacity = row->capacity;
  told->major = MAJOR, told->minor = MINOR, told->processors = PROCESSORS, told->warp = 32;
  told->threads_per_block = told->threads[0] = told->threads[1] = 1024, told->threads[2] = 64;
  told->grid[0] = 0x7fffffff, told->grid[1] = told->grid[2] = 65535;
  told->registers_per_block = told->registers_per_processor = 65536, told->threads_per_processor = 2048;
  told->shared_per_block = 49152, told->shared_opt_in = 166912, told->shared_per_processor = 167936, told->shared_reserved = 1024;
  told->constant = 65536, told->texture_alignment = told->surface_alignment = 512, told->texture_pitch_alignment = 32;
  told->pitch = 0x7fffffff, told->maps_host = told->concurrent = told->unified = told->managed = told->cooperative = 1;
  told->bus = row->gpu + 1, told->l2 = 40 * (int)MIB, told->engines = 3, told->blocks_per_processor = 32, told->bus_width = 5120;
  return OK;
}

API int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  static const struct { int attribute, value; } known[] = {
    {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536}, {10, 32},
    {12, 65536}, {13, 1410000}, {14, 512}, {16, PROCESSORS}, {19, 1}, {31, 1}, {36, 1215000}, {37, 5120}, {38, 40 << 20},
    {39, 2048}, {40, 3}, {41, 1}, {75, MAJOR}, {76, MINOR}, {78, 1}, {81, 167936}, {82, 65536}, {83, 1}, {95, 1},
    {97, 166912}, {102, 1}, {103, 1}, {106, 32}, {111, 1024}, {115, 1}};
  if (!device_is(device)) return said(INVALID_DEVICE);
  *value = attribute == 33 ? gpus[device].gpu + 1 : 0;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].attribute == attribute) *value = known[i].value;
  return OK;
}
API int cuDeviceGetAttribute(int *value, int attribute, int device) { return cudaDeviceGetAttribute(value, attribute, device); }

API int cudaGetDevice(int *device) { *device = current; return OK; }
API int cudaSetDevice(int device) {
  take();
  int code = use(device);
  if (!code) current = device;
  give();
  return said(code);
}
API int cudaDeviceGetPCIBusId(char *text, int length, int device) {
  if (!device_is(device)) return said(INVALID_DEVICE);
  snprintf(text, (size_t)length, "0000:%02X:00.0", gpus[device].gpu + 1);
  return OK;
}
API int cudaDeviceSynchronize(void) { return OK; }
API int cudaDeviceCanAccessPeer(int *can, int device, int peer) { (void)device, (void)peer; *can = 0; return OK; }
API int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0, *greatest = -5; return OK; }
API int cudaDriverGetVersion(int *version) { *version = VERSION; return OK; }
API int cudaRuntimeGetVersion(int *version) { *version = VERSION; return OK; }
API int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return device_is(ordinal) ? OK : INVALID_DEVICE; }
API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *is_active) {
  *flags = 0, *is_active = device_is(device) && active[device];
  return OK;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &gpus[device]; return OK; }
API int cuCtxGetCurrent(void **context) { *context = current < MAX_DEVICES && active[current] ? &gpus[current] : NULL; return OK; }
API int cuCtxSetCurrent(void *context) { (void)context; return OK; }

API int cudaGetLastError(void) { int code = last_error; return last_error = OK, code; }
API int cudaPeekAtLastError(void) { return last_error; }

static const struct { int code; const char *name, *text; } errors[] = {
  {OK, "cudaSuccess", "no error"}, {INVALID_VALUE, "cudaErrorInvalidValue", "invalid argument"},
  {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
  {INITIALIZATION_ERROR, "cudaErrorInitializationError", "initialization error"},
  {INSUFFICIENT_DRIVER, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
  {NO_DEVICE, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
  {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"}, {NOT_READY, "cudaErrorNotReady", "device not ready"},
  {NOT_SUPPORTED, "cudaErrorNotSupported", "operation not supported"},
  {CAPTURE_UNSUPPORTED, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
  {CAPTURE_UNMATCHED, "cudaErrorStreamCaptureUnmatched", "the capture was not initiated in this stream"}};

static const char *word_for(int code, int name) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) return name ? errors[i].name : errors[i].text;
  return name ? "cudaErrorUnknown" : "unknown error";
}
API const char *cudaGetErrorName(int code) { return word_for(code, 1); }
API const char *cudaGetErrorString(int code) { return word_for(code, 0); }
API int cuGetErrorString(int code, const char **text) { *text = word_for(code, 0); return OK; }

/* Streams and events: all is done at once, so there is nothing to wait for. */

API int cudaStreamCreateWithPriority(stream **made, unsigned flags, int priority) {
  (void)flags;
  take();
  int code = use(current);
  give();
  *made = code ? NULL : calloc(1, sizeof **made);
  if (*made) (*made)->priority = priority;
  return said(code);
}
API int cudaStreamCreateWithFlags(stream **made, unsigned flags) { return cudaStreamCreateWithPriority(made, flags, 0); }
API int cudaStreamCreate(stream **made) { return cudaStreamCreateWithPriority(made, 0, 0); }
API int cudaStreamDestroy(stream *s) { free(s); return OK; }
API int cudaStreamGetPriority(stream *s, int *priority) { *priority = (uintptr_t)s > 2 ? s->priority : 0; return OK; }
API int cudaStreamQuery(stream *s) { (void)s; return OK; }
API int cudaStreamSynchronize(stream *s) { (void)s; return OK; }
API int cudaStreamWaitEvent(stream *s, void *event, unsigned flags) { (void)s, (void)event, (void)flags; return OK; }
API int cudaLaunchHostFunc(stream *s, void (*function)(void *), void *data) { (void)s; function(data); return OK; }
API int cudaStreamAddCallback(stream *s, void (*function)(stream *, int, void *), void *data, unsigned flags) {
  (void)flags;
  function(s, OK, data);
  return OK;
}
API int cudaEventCreateWithFlags(void **made, unsigned flags) { (void)flags; *made = malloc(1); return OK; }
API int cudaEventCreate(void **made) { return cudaEventCreateWithFlags(made, 0); }
API int cudaEventDestroy(void *event) { free(event); return OK; }
API int cudaEventElapsedTime(float *milliseconds, void *start, void *end) { (void)start, (void)end; *milliseconds = 1; return OK; }

/* CUDA graphs: what is captured is not kept, as kernels do nothing anyhow; the memory pools are PyTorch's own. */

API int cudaStreamIsCapturing(stream *s, int *status) { *status = (uintptr_t)s > 2 && s->capturing; return OK; }
API int cudaStreamGetCaptureInfo(stream *s, int *status, bytes *id, void **graph, const void **d, const void **e, size_t *count) {
  cudaStreamIsCapturing(s, status);
  if (id) *id = *status ? s->capture : 0;
  if (graph) *graph = *status ? s : NULL;
  if (d) *d = NULL;
  if (e) *e = NULL;
  if (count) *count = 0;
  return OK;
}
API int cudaStreamBeginCapture(stream *s, int mode) {
  (void)mode;
  if ((uintptr_t)s <= 2 || s->capturing) return said(CAPTURE_UNSUPPORTED);
  take();
  s->capturing = 1, s->capture = ++captures;
  give();
  return OK;
}
API int cudaStreamEndCapture(stream *s, void **graph) {
  if ((uintptr_t)s <= 2 || !s->capturing) return said(CAPTURE_UNMATCHED);
  s->capturing = 0;
  *graph = malloc(1);
  return OK;
}
API int cudaThreadExchangeStreamCaptureMode(int *mode) { (void)mode; return OK; }
API int cudaGraphInstantiateWithFlags(void **made, void *graph, bytes flags) { (void)graph, (void)flags; *made = malloc(1); return OK; }
API int cudaGraphGetNodes(void *graph, void **nodes, size_t *count) { (void)graph, (void)nodes; *count = 1; return OK; }
API int cudaGraphDestroy(void *graph) { free(graph); return OK; }
API int cudaGraphExecDestroy(void *graph) { free(graph); return OK; }
API int cudaGraphLaunch(void *graph, stream *s) { (void)graph, (void)s; return OK; }
API int cudaDeviceGetGraphMemAttribute(int device, int attribute, bytes *value) { (void)device, (void)attribute; *value = 0; return OK; }

/* The pool behind cudaMallocAsync: here it keeps nothing back. */

API int cudaDeviceGetDefaultMemPool(void **pool, int device) { *pool = &gpus[device]; return OK; }
API int cudaMemPoolGetAttribute(const played_gpu *pool, int attribute, bytes *value) {
  bytes sum = 0;
  take();
  for (size_t i = 0; i < region_count; i++)
    if (&gpus[regions[i].device] == pool && regions[i].kind == DEVICE) sum += regions[i].charged;
  give();
  *value = attribute >= 5 ? sum : 0;
  return OK;
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
    char *at = *(char **)arguments[2];
    size_t size = (size_t)fills[i].size, whole = (size_t)*(int *)arguments[0] * size;
    if (whole < size) return OK;
    memcpy(at, arguments[1], size);
    for (size_t done = size, step; done < whole; done += step) { /* from a piece that stays in the processor's cache */
      step = done < 65536 ? done : 65536 / size * size;
      memcpy(at + done, at, step = step < whole - done ? step : whole - done);
    }
    return OK;
  }
  return OK;
}

typedef struct { unsigned x, y, z; } extent;

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

/* The libraries' calls whose answer PyTorch reads; the others only say that all is well. */

static char handle[4096]; /* stands for every handle of theirs */

/* It takes memory beside PyTorch's allocator, and fails in words of its own where there is none left. */
API int cublasCreate_v2(void **made) {
  enum { CUBLAS_STATUS_ALLOC_FAILED = 3 };
  void *workspace;
  *made = handle;
  return allocate(&workspace, 8 * MIB, DEVICE) ? cudaGetLastError(), CUBLAS_STATUS_ALLOC_FAILED : OK;
}
API int cublasDestroy_v2(void *h) { (void)h; return OK; }
API int cublasGetPointerMode_v2(void *h, int *mode) { (void)h; *mode = 0; return OK; }
API int cublasGetMathMode(void *h, int *mode) { (void)h; *mode = 0; return OK; }
API int cublasLtMatmulAlgoGetHeuristic(void *h, void *o, void *a, void *b, void *c, void *d, void *p, int wanted, char *found, int *count) {
  (void)h, (void)o, (void)a, (void)b, (void)c, (void)d, (void)p, (void)found;
  *count = wanted > 0;
  return OK;
}
API size_t cublasLtGetVersion(void) { return 130000; }
API int cusparseCreate(void **made) { *made = handle; return OK; }
API int cusolverDnCreate(void **made) { *made = handle; return OK; }
API int cudnnCreate(void **made) { *made = handle; return OK; }
API size_t cudnnGetVersion(void) { return CUDNN; }
API size_t cudnnGetCudartVersion(void) { return VERSION; }
API const char *cudnnGetErrorString(int code) { (void)code; return "an error of the played cuDNN"; }
API int ncclGetVersion(int *version) { *version = 22307; return OK; }
API int nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return OK; }

/* Driver functions by name. What is not here answers that it is not supported. */

static int not_supported(void) { return NOT_SUPPORTED; }

API int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, bytes flags, int *status) {
  Dl_info self;
  (void)version, (void)flags;
  void *library = dladdr((void *)&not_supported, &self) ? dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  *function = library ? dlsym(library, name) : NULL;
  if (!*function) *function = (void *)&not_supported;
  if (status) *status = 0;
  return OK;
}
