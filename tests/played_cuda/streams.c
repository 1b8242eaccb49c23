/* Streams, events and graphs: all is done at once, so there is nothing to wait for. */

#include "cuda.h"

typedef struct stream { int priority, capturing; bytes capture; } stream;
static bytes captures;

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

