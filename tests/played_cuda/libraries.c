/* The libraries' calls whose answer PyTorch reads (the others only say that all is well), and functions by name. */

#include "cuda.h"

#include <dlfcn.h>

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
