/* Memory: allocations that are counted, the address ranges of expandable segments, the pool of cudaMallocAsync.

   What is counted is counted under `lock`; the ledger's own lock keeps other processes out. */

#include "cuda.h"

static region *regions; /* what was allocated, in no order */
static size_t region_count, region_room;

OURS void forget_regions(void) { region_count = 0; }

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

/* A line of our own: the error that PyTorch makes of the code would look like its own or the driver's. */
static void complain(const char *text) {
  fprintf(stderr, "played CUDA: %s: %s\n", getenv("NVML_STUB"), text);
}

/* Write down that this process holds so much more, or less, of a device. */
static int charge(int device, long long size) {
  int file, code = OK;
  ledger_row *rows = ledger_open(1, &file), *own = NULL, *room = NULL;
  unsigned pid = (unsigned)getpid();
  if (!rows) return complain("its ledger cannot be written"), INITIALIZATION_ERROR;
  flock(file, LOCK_EX);
  for (int i = 0; i < LEDGER_ROWS; i++) {
    if (rows[i].pid && !ledger_counts(&rows[i])) memset(&rows[i], 0, sizeof rows[i]);
    if (!rows[i].pid && !room) room = &rows[i];
    if (rows[i].pid == pid && (int)rows[i].place == places[device]) own = &rows[i];
  }
  if (size > 0 && free_bytes(device) < (bytes)size) code = OUT_OF_MEMORY;
  else if (own) own->held += (bytes)size;
  else if (room && size > 0) *room = (ledger_row){pid, (unsigned)places[device], ledger_born(pid), (bytes)size};
  else if (size > 0) complain("its ledger is full"), code = INITIALIZATION_ERROR;
  flock(file, LOCK_UN);
  return code;
}

OURS int use(int device) {
  if (device < 0 || device >= count_devices()) return INVALID_DEVICE;
  if (active[device]) return OK;
  int code = gpus[device].context ? charge(device, (long long)gpus[device].context) : OK;
  active[device] = code == OK;
  return code;
}

OURS region *region_of(const void *pointer) {
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

OURS int allocate(void **pointer, bytes size, int kind) {
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
  mmap(pointer, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
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

