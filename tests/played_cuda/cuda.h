/* A stand-in for NVIDIA's CUDA runtime (libcudart.so.13) and driver (libcuda.so.1), without a GPU.

   Memory of the device is memory of the host, taken from the system only where it is touched, and counted in the
   ledger (ledger.h) against the capacity that the scenario says. Copies and memsets are done, and so is what
   torch.ones and torch.full launch; other kernels are not: a launch succeeds and changes nothing. So what PyTorch
   computes on it is meaningless, and all that it allocates, caches, frees, reports and refuses is real. Only what
   PyTorch calls is here; build.py adds what it merely links to.

   Structures and numbers follow CUDA 13's public headers; those of 12 differ in cudaDeviceProp.

   devices.c    which devices there are, what is told of them, and errors
   memory.c     allocations, counted; address ranges of expandable segments; the pool of cudaMallocAsync
   contents.c   copies, memsets, and the kernels that fill a tensor
   streams.c    streams, events and graphs
   libraries.c  cuBLAS and its like, and functions that are looked up by name */

#ifndef CUDA_H
#define CUDA_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "ledger.h"

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INITIALIZATION_ERROR = 3, INSUFFICIENT_DRIVER = 35, NO_DEVICE = 100,
       INVALID_DEVICE = 101, NOT_READY = 600, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_UNMATCHED = 903 };
enum { UNREGISTERED = 0, HOST = 1, DEVICE = 2 };
enum { MAX_DEVICES = 64, VERSION = 13000, MAJOR = 8, MINOR = 0, PROCESSORS = 108 };
#define MIB (1ull << 20)
#define PAGE (2 * MIB) /* the driver gives memory in such pieces */
#define API __attribute__((visibility("default")))
#define OURS __attribute__((visibility("hidden")))

typedef unsigned long long bytes;
typedef struct { char *at; bytes size, charged; int kind, device; } region;
typedef struct { unsigned x, y, z; } extent;

extern OURS pthread_mutex_t lock;              /* over all that is shared here */
extern OURS played_gpu gpus[MAX_DEVICES];      /* those that CUDA shows, in its order */
extern OURS int places[MAX_DEVICES];           /* each one's place in the scenario */
extern OURS unsigned char active[MAX_DEVICES]; /* whether this process has a context there */
extern OURS __thread int current, last_error;

static inline void take(void) { pthread_mutex_lock(&lock); }
static inline void give(void) { pthread_mutex_unlock(&lock); }
static inline int said(int code) { return code ? last_error = code : OK; }

/* These three want the lock held. */
OURS int count_devices(void);
OURS int use(int device); /* begin to use a device: that makes the context, which takes memory of its own */
OURS region *region_of(const void *pointer);

OURS int device_is(int device);
OURS int allocate(void **pointer, bytes size, int kind);
OURS void forget_regions(void);
API int cudaGetLastError(void);

#endif
