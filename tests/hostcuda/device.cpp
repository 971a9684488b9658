// A CUDA device that is the host: what CuPy's array code calls of the CUDA runtime, the driver and cuBLAS.
//
// Device memory is memory of the process. Every operation is finished when its call returns, in the order of the calls.
// Everything that a test may bound is counted.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

// ---------------------------------------------------------------------------------------------- what tests read and set

// COUNTS in device.py names these fields in the same order.
struct Counts {
  long long launches, products, flops, syncs, uploads, uploaded, downloads, downloaded, copies, allocations, live, peak;
};
static Counts counts;
static std::map<std::string, long long> launches_of;
static size_t memory = size_t(80) << 30;  // bytes of the card
static bool poison = false;               // whether fresh memory is filled with NaN
static std::recursive_mutex lock;         // kernels have global variables: one runs at a time
#define LOCKED std::lock_guard<std::recursive_mutex> held(lock)

extern "C" void hostcuda_counts(long long *out) { LOCKED; memcpy(out, &counts, sizeof counts); }
extern "C" long long hostcuda_launches(const char *kernel) { LOCKED; return launches_of[kernel]; }
extern "C" void hostcuda_set(size_t bytes, int fill) { LOCKED; memory = bytes, poison = fill; }
extern "C" void hostcuda_reset() {
  LOCKED;
  long long live = counts.live;
  counts = Counts{}, counts.live = counts.peak = live;
  launches_of.clear();
}

// ------------------------------------------------------------------------------------------------------------- memory

static const size_t GUARD = 64;  // bytes before and after each allocation, which no kernel may change
static std::unordered_map<void *, size_t> sizes;

static void check_guards(void *p, size_t n) {
  for (size_t i = 0; i < GUARD; i++)
    if (((unsigned char *)p - GUARD)[i] != 0xa5 || ((unsigned char *)p + n)[i] != 0xa5) {
      fprintf(stderr, "hostcuda: a write outside an allocation of %zu bytes\n", n);
      abort();
    }
}

extern "C" {
cudaError_t cudaMalloc(void **p, size_t n) {
  LOCKED;
  if (counts.live + n > memory) return cudaErrorMemoryAllocation;
  char *base;
  if (posix_memalign((void **)&base, 512, n + 512 + GUARD)) return cudaErrorMemoryAllocation;
  *p = base + 512;  // keeps the alignment of CUDA
  memset(base + 512 - GUARD, 0xa5, GUARD), memset(base + 512 + n, 0xa5, GUARD);
  if (poison) memset(*p, 0xff, n);
  sizes[*p] = n, counts.allocations++, counts.live += n;
  if (counts.live > counts.peak) counts.peak = counts.live;
  return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
  LOCKED;
  auto found = sizes.find(p);
  if (found == sizes.end()) return p ? cudaErrorInvalidValue : cudaSuccess;
  check_guards(p, found->second);
  counts.live -= found->second;
  sizes.erase(found), free((char *)p - 512);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) { return posix_memalign(p, 4096, n + 1) ? cudaErrorMemoryAllocation : cudaSuccess; }
cudaError_t cudaFreeHost(void *p) { return free(p), cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
  LOCKED;
  return *total = memory, *unused = memory - counts.live, cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *found, const void *p) {
  LOCKED;
  memset(found, 0, sizeof *found);
  found->type = sizes.count((void *)p) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return found->devicePointer = (void *)p, cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t) {
  LOCKED;
  if (kind == cudaMemcpyHostToDevice) counts.uploads++, counts.uploaded += n;
  else if (kind == cudaMemcpyDeviceToHost) counts.downloads++, counts.downloaded += n;
  else counts.copies++;
  return memmove(to, from, n), cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind) {
  LOCKED;
  if (kind != cudaMemcpyDeviceToDevice) counts.syncs++;
  return cudaMemcpyAsync(to, from, n, kind, 0);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t) {
  LOCKED;
  return counts.launches++, memset(p, value, n), cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t n) { return cudaMemsetAsync(p, value, n, 0); }

// ------------------------------------------------------------------------------------------------- device and streams

const char *cudaGetErrorName(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorHost"; }
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "error of the host device"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaGetDevice(int *d) { return *d = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr which, int) {
  switch (which) {
    case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMultiProcessorCount: *v = 132; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 48 << 10; break;
    case cudaDevAttrMaxGridDimX: *v = 2147483647; break;
    default: *v = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
  memset(p, 0, sizeof *p), strcpy(p->name, "the host");
  p->major = 9, p->warpSize = 32, p->multiProcessorCount = 132, p->maxThreadsPerBlock = 1024, p->totalGlobalMem = memory;
  return cudaSuccess;
}
static cudaError_t sync() { LOCKED; return counts.syncs++, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return sync(); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return sync(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return sync(); }
cudaError_t cudaStreamCreate(cudaStream_t *s) { return *s = (cudaStream_t)malloc(8), cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) { return cudaStreamCreate(s); }
cudaError_t cudaStreamDestroy(cudaStream_t s) { return free(s), cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *s) { return *s = cudaStreamCaptureStatusNone, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *e) { return *e = (cudaEvent_t)malloc(8), cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventDestroy(cudaEvent_t e) { return free(e), cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult, const char **s) { return *s = "CUDA_ERROR_HOST", CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult, const char **s) { return *s = "error of the host device", CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *c) { return *c = (CUcontext)8, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *d) { return *d = 0, CUDA_SUCCESS; }
CUresult cuStreamGetCtx(CUstream, CUcontext *c) { return *c = (CUcontext)8, CUDA_SUCCESS; }

// ------------------------------------------------------------------------------------------------------------ kernels

// A module is the path of a shared object that kernel.h was compiled into, so that it has a function NAME__launch.
typedef void (*Launch)(void **parameters, const unsigned *grid, const unsigned *block);
struct Function { Launch launch; std::string name; };

CUresult cuModuleLoadData(CUmodule *module, const void *path) {
  *module = (CUmodule)dlopen((const char *)path, RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "hostcuda: %s\n", dlerror());
  return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *found, CUmodule module, const char *name) {
  void *launch = dlsym((void *)module, (std::string(name) + "__launch").c_str());
  *found = launch ? (CUfunction) new Function{(Launch)launch, name} : nullptr;
  return launch ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned, CUstream, void **parameters, void **) {
  LOCKED;
  if (!gx || !gy || !gz || !bx || bx * by * bz > 1024) return CUDA_ERROR_INVALID_VALUE;
  unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
  counts.launches++, launches_of[((Function *)f)->name]++;
  return ((Function *)f)->launch(parameters, grid, block), CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *v, CUfunction_attribute which, CUfunction) {
  return *v = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0, CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, CUfunction, int, size_t) { return *n = 2, CUDA_SUCCESS; }

// Threads of a block that wait for each other run on stacks of their own. A barrier gives the turn to the next thread.
static const unsigned THREADS = 1024, STACK = 64 << 10;
static jmp_buf scheduler, threads[THREADS];
static bool running[THREADS];
static unsigned turn, made;
static void (*enter)(unsigned thread);

static void thread_main() {
  for (;;) {
    enter(turn);
    running[turn] = false;
    if (!_setjmp(threads[turn])) _longjmp(scheduler, 1);
  }
}
static void make_thread(unsigned t) {  // starts it, up to its first wait
  static ucontext_t back, contexts[THREADS];
  getcontext(&contexts[t]);
  contexts[t].uc_stack.ss_sp = malloc(STACK), contexts[t].uc_stack.ss_size = STACK;
  makecontext(&contexts[t], thread_main, 0);
  if (!_setjmp(scheduler)) swapcontext(&back, &contexts[t]);
}
void hostcuda_barrier() {
  if (!_setjmp(threads[turn])) _longjmp(scheduler, 1);
}
void hostcuda_block(void (*run)(unsigned thread), unsigned n) {
  static volatile unsigned t;
  enter = run;
  for (t = 0; t < n; t++) running[t] = true;
  static volatile bool first, any;
  for (first = any = true; any; first = false)
    for (any = false, t = 0; t < n; t++) {
      if (!running[t]) continue;
      any = true, turn = t;
      if (first && t == made) made++, make_thread(t);
      else if (!_setjmp(scheduler)) _longjmp(threads[t], 1);
    }
}

// ------------------------------------------------------------------------------------------------------------- cuBLAS

typedef _Float16 half;
typedef long long ll;
int cublasCreate_v2(void **h) { return *h = malloc(8), 0; }
int cublasDestroy_v2(void *h) { return free(h), 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasGetStream_v2(void *, void **s) { return *s = nullptr, 0; }
int cublasSetMathMode(void *, int) { return 0; }
int cublasGetMathMode(void *, int *mode) { return *mode = 0, 0; }
static int pointer_mode;
int cublasSetPointerMode_v2(void *, int mode) { return pointer_mode = mode, 0; }
int cublasGetPointerMode_v2(void *, int *mode) { return *mode = pointer_mode, 0; }
int cublasGetVersion_v2(void *, int *v) { return *v = 130000, 0; }
}

// C = alpha op(A) op(B) + beta C in column-major order; sums are of type S. C is not read if beta is 0.
template <class T, class S>
static void multiply(int ta, int tb, ll m, ll n, ll k, S alpha, const T *a, ll lda, const T *b, ll ldb, S beta, T *c, ll ldc) {
  std::vector<S> rows(m * k), column(k);
  for (ll l = 0; l < k; l++)
    for (ll i = 0; i < m; i++) rows[i * k + l] = S(ta ? a[i * lda + l] : a[l * lda + i]);
  for (ll j = 0; j < n; j++) {
    for (ll l = 0; l < k; l++) column[l] = S(tb ? b[l * ldb + j] : b[j * ldb + l]);
    for (ll i = 0; i < m; i++) {
      const S *row = &rows[i * k];
      S lanes[16] = {}, total = 0;
      ll l = 0;
      for (; l + 16 <= k; l += 16)
        for (int lane = 0; lane < 16; lane++) lanes[lane] += row[l + lane] * column[l + lane];
      for (; l < k; l++) total += row[l] * column[l];
      for (S lane : lanes) total += lane;
      T &to = c[j * ldc + i];
      to = T(beta == S(0) ? alpha * total : alpha * total + beta * S(to));
    }
  }
}

extern "C" {
// Types are CUDA_R_32F = 0, CUDA_R_64F = 1 and CUDA_R_16F = 2. CuPy asks for sums of float16 in float32.
int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type, int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int, int) {
  LOCKED;
  if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || type != type_b || type != type_c) return 7;  // invalid value
  counts.products++, counts.flops += 2LL * m * n * k;
  if (type == 0) multiply(ta, tb, m, n, k, *(float *)alpha, (float *)a, lda, (float *)b, ldb, *(float *)beta, (float *)c, ldc);
  else if (type == 1) multiply(ta, tb, m, n, k, *(double *)alpha, (double *)a, lda, (double *)b, ldb, *(double *)beta, (double *)c, ldc);
  else if (type == 2) multiply(ta, tb, m, n, k, *(float *)alpha, (half *)a, lda, (half *)b, ldb, *(float *)beta, (half *)c, ldc);
  else return 15;  // not supported
  return 0;
}
int cublasSgemmEx(void *h, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type, int lda,
                  const void *b, int type_b, int ldb, const float *beta, void *c, int type_c, int ldc) {
  return cublasGemmEx(h, ta, tb, m, n, k, alpha, a, type, lda, b, type_b, ldb, beta, c, type_c, ldc, 0, 0);
}
int cublasGemmStridedBatchedEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type,
                               int lda, ll step_a, const void *b, int type_b, int ldb, ll step_b, const void *beta, void *c,
                               int type_c, int ldc, ll step_c, int batch, int compute, int algorithm) {
  LOCKED;
  const ll size = type == 0 ? 4 : type == 1 ? 8 : 2;
  for (int i = 0; i < batch; i++) {
    const int failed = cublasGemmEx(h, ta, tb, m, n, k, alpha, (char *)a + i * step_a * size, type, lda, (char *)b + i * step_b * size,
                                    type_b, ldb, beta, (char *)c + i * step_c * size, type_c, ldc, compute, algorithm);
    if (failed) return failed;
  }
  return counts.products -= batch - 1, 0;
}
int cublasSnrm2_v2(void *, int n, const float *x, int step, float *found) {
  double square = 0;
  for (ll i = 0; i < n; i++) square += double(x[i * step]) * x[i * step];
  return *found = float(std::sqrt(square)), 0;
}
int cublasDnrm2_v2(void *, int n, const double *x, int step, double *found) {
  double square = 0;
  for (ll i = 0; i < n; i++) square += x[i * step] * x[i * step];
  return *found = std::sqrt(square), 0;
}
}
