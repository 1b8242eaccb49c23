/* A stand-in for NVIDIA's libnvidia-ml.so.1 that plays the scenario file named by NVML_STUB.

   The file is looked at again at every call, so that a test can change figures while a reader runs. Its lines
   are described in __init__.py beside this file. Only what the package, or torch, may call is here. */

#include <ctype.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger.h"

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, FUNCTION_NOT_FOUND = 13, ARGUMENT_VERSION_MISMATCH = 25 };
enum { MAX_DEVICES = 64, MAX_PROCESSES = 64, MAX_RULES = 64, NOBODY = -1, MIG_PLACES = 7 };
enum { COMPUTE = 1, GRAPHICS = 2 };
#define NOT_AVAILABLE (~0ULL)
#define MEMORY_V2 0x02000028u

typedef unsigned long long bytes;
typedef void *handle;

typedef struct { unsigned pid; bytes used; int kinds; } process;
typedef struct {
  int line;                           /* where it stands in the scenario */
  int parent;                         /* NOBODY, or the device that this MIG device is part of */
  int place;                          /* place among the parent's MIG devices */
  int mig;                            /* whether MIG mode is on */
  int inclusive;                      /* whether version 2 of the memory call counts reserved as used */
  char uuid[96], name[96];
  bytes capacity, used, free, reserved;
  bytes taken, context;               /* given away by the scenario; taken by each process that uses the device */
  int free_given, count;
  process processes[MAX_PROCESSES];
} device;
typedef struct { char function[64]; int code, device, slow; } rule;
typedef struct { unsigned pid; bytes used; unsigned gpu_instance, compute_instance; } process_info;
typedef struct { bytes total, free, used; } memory_v1;
typedef struct { unsigned version; bytes total, reserved, free, used; } memory_v2;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int started; /* NVML counts its starts; so does this */
static device devices[MAX_DEVICES];
static rule rules[MAX_RULES];
static int device_count, rule_count, line_number;
static char driver_version[64];

static void take(void) { pthread_mutex_lock(&lock); }
static void give(void) { pthread_mutex_unlock(&lock); }

/* A child that is forked while another thread is in here gets a lock that is free. */
__attribute__((constructor)) static void survive_forks(void) { pthread_atfork(take, give, give); }

/* "8GiB", "512 KiB" without the blank, "1048576", "unknown" */
static bytes size_of(const char *text) {
  char *unit;
  if (!strcmp(text, "unknown")) return NOT_AVAILABLE;
  bytes whole = strtoull(text, &unit, 10);
  double number = strtod(text, &unit);
  if (!strcmp(unit, "GiB")) return (bytes)(number * (1 << 30));
  if (!strcmp(unit, "MiB")) return (bytes)(number * (1 << 20));
  if (!strcmp(unit, "KiB")) return (bytes)(number * (1 << 10));
  if (unit == text || *unit || number < 0) scenario_is_wrong(line_number, "not a size", text);
  return whole;
}

static void add_device(const char *rest, int mig) {
  char size[64] = "0";
  int used_up = 0, parent = NOBODY, place = 0;
  if (device_count == MAX_DEVICES) return;
  for (int i = 0; mig && i < device_count; i++) {
    if (devices[i].parent == NOBODY) parent = i, place = 0;
    else place++;
  }
  device *d = &devices[device_count++];
  memset(d, 0, sizeof *d);
  d->parent = parent;
  d->place = place;
  if (mig && parent != NOBODY) devices[parent].mig = 1;
  if (sscanf(rest, "%95s %63s %n", d->uuid, size, &used_up) < 2) scenario_is_wrong(line_number, "no uuid and capacity", rest);
  d->capacity = size_of(size);
  d->line = line_number;
  snprintf(d->name, sizeof d->name, "%s", rest + used_up);
}

static void add_process(device *d, const char *rest) {
  char pid[32] = "", used[64] = "unknown", kind[32] = "compute";
  if (d->count == MAX_PROCESSES) return;
  process *p = &d->processes[d->count++];
  sscanf(rest, "%31s %63s %31s", pid, used, kind);
  p->pid = strcmp(pid, "self") ? (unsigned)strtoul(pid, NULL, 10) : (unsigned)getpid();
  p->used = size_of(used);
  p->kinds = !strcmp(kind, "both") ? COMPUTE | GRAPHICS : !strcmp(kind, "graphics") ? GRAPHICS : COMPUTE;
}

static void add_rule(const char *word, const char *rest) {
  if (rule_count == MAX_RULES) return;
  rule *r = &rules[rule_count++];
  memset(r, 0, sizeof *r);
  r->device = NOBODY;
  if (!strcmp(word, "slow")) sscanf(rest, "%63s %d", r->function, &r->slow);
  else if (!strcmp(word, "error")) sscanf(rest, "%63s %d %d", r->function, &r->code, &r->device);
  else sscanf(rest, "%63s", r->function), r->code = FUNCTION_NOT_FOUND;
}

static void read_line(char *line) {
  char word[32] = "";
  int used_up = 0;
  line[strcspn(line, "\r\n")] = 0;
  if (sscanf(line, "%31s %n", word, &used_up) < 1 || word[0] == '#') return;
  const char *rest = line + used_up;
  device *d = device_count ? &devices[device_count - 1] : NULL;
  if (!strcmp(word, "gpu") || !strcmp(word, "mig")) add_device(rest, word[0] == 'm');
  else if (!strcmp(word, "error") || !strcmp(word, "missing") || !strcmp(word, "slow")) add_rule(word, rest);
  else if (!strcmp(word, "driver")) snprintf(driver_version, sizeof driver_version, "%s", rest);
  else if (d && !strcmp(word, "mig-mode")) d->mig = 1;
  else if (d && !strcmp(word, "used")) d->used = size_of(rest);
  else if (d && !strcmp(word, "free")) d->free = size_of(rest), d->free_given = 1;
  else if (d && !strcmp(word, "reserved")) d->reserved = size_of(rest);
  else if (d && !strcmp(word, "reserved-is-used")) d->inclusive = 1;
  else if (d && !strcmp(word, "context")) d->context = size_of(rest);
  else if (d && !strcmp(word, "process")) add_process(d, rest);
  else scenario_is_wrong(line_number, d ? "not understood" : "not understood before the first gpu", line);
}

/* Add what real processes hold of it, as the played CUDA runtime has written it down. */
static void count_ledger(device *d, int place) {
  const ledger_row *rows = ledger_open(0, NULL);
  for (int i = 0; rows && i < LEDGER_ROWS; i++) {
    if (!rows[i].held || (int)rows[i].place != place || !ledger_counts(&rows[i])) continue;
    d->used += d->used == NOT_AVAILABLE ? 0 : rows[i].held;
    d->free -= d->free < rows[i].held ? d->free : rows[i].held;
    if (d->count < MAX_PROCESSES) d->processes[d->count++] = (process){rows[i].pid, rows[i].held, COMPUTE};
  }
}

static int index_of(const device *d) {
  int index = -1;
  const device *gpu = d->parent == NOBODY ? d : &devices[d->parent];
  for (const device *each = devices; each <= gpu; each++) index += each->parent == NOBODY;
  return index;
}

/* Whether this process has read this very file before, and nothing but the file counts. */
static int was_read(FILE *file) {
  static struct stat before;
  static pid_t reader;
  struct stat now;
  if (!file || fstat(fileno(file), &now)) return 0;
  int same = reader == getpid() && !ledger_open(0, NULL) && now.st_dev == before.st_dev && now.st_ino == before.st_ino &&
             now.st_size == before.st_size && now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
             now.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
  before = now, reader = getpid();
  return same;
}

/* Read the scenario; 0 where there is none, as where no driver runs. */
static int read_scenario(void) {
  char line[512];
  const char *path = getenv("NVML_STUB");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (was_read(file)) return fclose(file), 1;
  device_count = rule_count = 0;
  snprintf(driver_version, sizeof driver_version, "580.65.06");
  if (!file) return 0;
  for (line_number = 1; fgets(line, sizeof line, file); line_number++) read_line(line);
  fclose(file);
  for (int i = 0; i < device_count; i++) {
    device *d = &devices[i];
    if (!d->free_given && d->used != NOT_AVAILABLE && d->used + d->reserved > d->capacity)
      scenario_is_wrong(d->line, "more is used and reserved than there is", d->uuid);
    if (!d->free_given) d->free = d->capacity - d->used - d->reserved;
    d->taken = d->capacity - d->free;
    count_ledger(d, i);
  }
  return 1;
}

int played_row(int place, played_gpu *row) {
  take();
  int found = read_scenario() && place < device_count;
  if (found) {
    device *d = &devices[place];
    *row = (played_gpu){.capacity = d->capacity, .taken = d->taken, .context = d->context, .line = d->line,
                        .parent = d->parent, .gpu = index_of(d), .mig = d->mig};
    memcpy(row->uuid, d->uuid, sizeof row->uuid);
    memcpy(row->name, d->name, sizeof row->name);
  }
  give();
  return found;
}

static device *device_of(handle h) {
  size_t number = (size_t)h;
  return number >= 1 && number <= (size_t)device_count ? &devices[number - 1] : NULL;
}

/* What the scenario says of a call: the code it fails with, or OK. Waits outside the lock where it is slow. */
static int ruling(const char *function, int index) {
  int code = OK, slow = 0;
  for (int i = 0; i < rule_count; i++) {
    if (strcmp(rules[i].function, function)) continue;
    if (rules[i].device != NOBODY && rules[i].device != index) continue;
    if (rules[i].slow) slow = rules[i].slow;
    else code = rules[i].code;
  }
  if (slow) {
    give();
    usleep((unsigned)slow * 1000);
    take();
    read_scenario();
  }
  return code;
}

/* Every call that needs a started library begins so, and ends with `done`. */
static int begin(const char *function, int index) {
  take();
  if (!read_scenario()) return DRIVER_NOT_LOADED;
  int code = ruling(function, index);
  return code ? code : started > 0 ? OK : UNINITIALIZED;
}

static int begin_device(const char *function, handle h, device **d) {
  take();
  if (!read_scenario()) return DRIVER_NOT_LOADED;
  *d = device_of(h);
  int code = ruling(function, *d ? index_of(*d) : NOBODY);
  *d = device_of(h);
  return code ? code : started <= 0 ? UNINITIALIZED : *d ? OK : INVALID_ARGUMENT;
}

static int done(int code) {
  give();
  return code;
}

static int start(const char *function) {
  take();
  int code = read_scenario() ? ruling(function, NOBODY) : DRIVER_NOT_LOADED;
  if (code == OK) started++;
  return done(code);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return start("nvmlInitWithFlags"); }
int nvmlInit_v2(void) { return start("nvmlInit_v2"); }
int nvmlInit(void) { return start("nvmlInit"); }

int nvmlShutdown(void) {
  int code = begin("nvmlShutdown", NOBODY);
  if (code == OK) started--;
  return done(code);
}

/* For tests: how many starts have not been matched by a shutdown. */
int stub_started(void) { return started; }

const char *nvmlErrorString(int code) { (void)code; return "an error of the stub"; }

static int copy(char *to, unsigned length, const char *from) {
  if (strlen(from) >= length) return INSUFFICIENT_SIZE;
  strcpy(to, from);
  return OK;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  int code = begin("nvmlSystemGetDriverVersion", NOBODY);
  return done(code ? code : copy(version, length, driver_version));
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  int code = begin("nvmlSystemGetCudaDriverVersion_v2", NOBODY);
  *version = 13000;
  return done(code);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  int code = begin("nvmlDeviceGetCount_v2", NOBODY);
  *count = 0;
  for (int i = 0; !code && i < device_count; i++) *count += devices[i].parent == NOBODY;
  return done(code);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *h) {
  int code = begin("nvmlDeviceGetHandleByIndex_v2", (int)index);
  if (code) return done(code);
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == NOBODY && index_of(&devices[i]) == (int)index) return *h = (handle)(size_t)(i + 1), done(OK);
  return done(INVALID_ARGUMENT);
}

/* The GPU at bus n + 1 is number n: so the played CUDA runtime numbers them. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *place, handle *h) {
  unsigned domain = 0, bus = 0;
  int code = begin("nvmlDeviceGetHandleByPciBusId_v2", NOBODY);
  if (code) return done(code);
  if (sscanf(place, "%x:%x", &domain, &bus) == 2)
    for (int i = 0; i < device_count; i++)
      if (devices[i].parent == NOBODY && index_of(&devices[i]) + 1 == (int)bus) return *h = (handle)(size_t)(i + 1), done(OK);
  return done(NOT_FOUND);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, handle *h) {
  int code = begin("nvmlDeviceGetHandleByUUID", NOBODY);
  if (code) return done(code);
  for (int i = 0; i < device_count; i++)
    if (!strcmp(devices[i].uuid, uuid)) return *h = (handle)(size_t)(i + 1), done(OK);
  return done(NOT_FOUND);
}

int nvmlDeviceGetName(handle h, char *name, unsigned length) {
  device *d;
  int code = begin_device("nvmlDeviceGetName", h, &d);
  return done(code ? code : copy(name, length, d->name));
}

int nvmlDeviceGetUUID(handle h, char *uuid, unsigned length) {
  device *d;
  int code = begin_device("nvmlDeviceGetUUID", h, &d);
  return done(code ? code : copy(uuid, length, d->uuid));
}

int nvmlDeviceGetIndex(handle h, unsigned *index) {
  device *d;
  int code = begin_device("nvmlDeviceGetIndex", h, &d);
  if (!code) *index = (unsigned)index_of(d);
  return done(code);
}

int nvmlDeviceGetMemoryInfo(handle h, memory_v1 *memory) {
  device *d;
  int code = begin_device("nvmlDeviceGetMemoryInfo", h, &d);
  if (code) return done(code);
  memory->total = d->capacity;
  memory->free = d->free;
  memory->used = d->used == NOT_AVAILABLE ? d->used : d->used + d->reserved;
  return done(OK);
}

int nvmlDeviceGetMemoryInfo_v2(handle h, memory_v2 *memory) {
  device *d;
  int code = begin_device("nvmlDeviceGetMemoryInfo_v2", h, &d);
  if (code) return done(code);
  if (memory->version != MEMORY_V2) return done(ARGUMENT_VERSION_MISMATCH);
  memory->total = d->capacity;
  memory->free = d->free;
  memory->reserved = d->reserved;
  memory->used = d->used + (d->inclusive ? d->reserved : 0);
  return done(OK);
}

static int list_processes(const char *function, handle h, unsigned *count, process_info *rows, int kind, size_t stride) {
  device *d;
  int code = begin_device(function, h, &d);
  if (code) return done(code);
  unsigned found = 0, room = *count;
  for (int i = 0; i < d->count; i++) {
    if (!(d->processes[i].kinds & kind)) continue;
    process_info row = {d->processes[i].pid, d->processes[i].used, ~0u, ~0u};
    if (rows && found < room) memcpy((char *)rows + found * stride, &row, stride);
    found++;
  }
  *count = found;
  return done(found > room ? INSUFFICIENT_SIZE : OK);
}

#define LIST(function, kind) \
  int function(handle h, unsigned *count, process_info *rows) { return list_processes(#function, h, count, rows, kind, sizeof *rows); }
LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)

/* The first version of the call, which PyTorch's own message asks: rows of pid and bytes alone. */
int nvmlDeviceGetComputeRunningProcesses(handle h, unsigned *count, process_info *rows) {
  return list_processes("nvmlDeviceGetComputeRunningProcesses", h, count, rows, COMPUTE, offsetof(process_info, gpu_instance));
}

int nvmlDeviceGetMigMode(handle h, unsigned *current, unsigned *pending) {
  device *d;
  int code = begin_device("nvmlDeviceGetMigMode", h, &d);
  if (code) return done(code);
  *current = *pending = (unsigned)d->mig;
  return done(OK);
}

int nvmlDeviceGetMaxMigDeviceCount(handle h, unsigned *count) {
  device *d;
  int code = begin_device("nvmlDeviceGetMaxMigDeviceCount", h, &d);
  if (!code) *count = MIG_PLACES;
  return done(code);
}

int nvmlDeviceGetMigDeviceHandleByIndex(handle h, unsigned place, handle *found) {
  device *d;
  int code = begin_device("nvmlDeviceGetMigDeviceHandleByIndex", h, &d);
  if (code) return done(code);
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == d - devices && devices[i].place == (int)place) return *found = (handle)(size_t)(i + 1), done(OK);
  return done(NOT_FOUND);
}
