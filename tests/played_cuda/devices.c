/* Which devices CUDA shows, what it tells of them, and its errors. */

#include "cuda.h"

OURS pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
OURS played_gpu gpus[MAX_DEVICES];
OURS int places[MAX_DEVICES];
OURS unsigned char active[MAX_DEVICES];
OURS __thread int current, last_error;
static int gpu_count = -1;

/* A child that is forked has no context, and nothing in the ledger. */
static void forget(void) { memset(active, 0, sizeof active), forget_regions(), give(); }
__attribute__((constructor)) static void survive_forks(void) { pthread_atfork(take, give, forget); }

/* Whether a word of CUDA_VISIBLE_DEVICES means the GPU of that number. */
static int chosen(const char *word, size_t length, int number, const played_gpu *row) {
  char *end;
  if (!strncmp(word, "GPU-", 4) || !strncmp(word, "MIG-", 4)) return !strncmp(row->uuid, word, length);
  long wanted = strtol(word, &end, 10);
  return end != word && wanted == number;
}

/* PyTorch reads a uuid as 16 bytes; one that is not given in full would be another GPU's to each of its readers. */
static void check_uuid(const played_gpu *row) {
  int digits = 0;
  for (const char *at = row->uuid + 4; *at; at++) digits += strchr("0123456789abcdefABCDEF", *at) != NULL;
  if (strlen(row->uuid) < 4 || digits != 32) scenario_is_wrong(row->line, "CUDA needs a uuid of 32 hexadecimal digits", row->uuid);
}

/* Fill `gpus` by the scenario and CUDA_VISIBLE_DEVICES, once. One MIG device at most is shown, and no GPU beside it. */
OURS int count_devices(void) {
  played_gpu rows[MAX_DEVICES];
  int found[MAX_DEVICES], count = 0;
  if (gpu_count >= 0) return gpu_count;
  for (int place = 0; count < MAX_DEVICES && played_row(place, &rows[count]); place++)
    if (!(rows[count].mig && rows[count].parent < 0)) { /* a GPU in parts is not shown whole */
      check_uuid(&rows[count]);
      found[count++] = place;
    }
  if (!count) fprintf(stderr, "played CUDA: no GPU in the scenario NVML_STUB=%s\n", getenv("NVML_STUB"));
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

OURS int device_is(int device) {
  take();
  int there = device >= 0 && device < count_devices();
  give();
  return there;
}

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

