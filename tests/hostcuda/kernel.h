// CUDA C for a compiler of C++: what the kernels that CuPy generates use of the language.
//
// A block runs in one thread of the host. Kernels with barriers run its threads by turns, from barrier to barrier.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

extern "C" void hostcuda_barrier();
extern "C" void hostcuda_block(void (*run)(unsigned thread), unsigned threads);

namespace hostcuda {
struct Index { unsigned x, y, z; };
}
static hostcuda::Index threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

static inline void __syncthreads() {
  const auto mine = threadIdx;
  hostcuda_barrier();
  threadIdx = mine;
}
static inline void __syncwarp(unsigned = ~0u) { __syncthreads(); }

template <class A, class B> static inline auto min(A a, B b) {
  typedef std::common_type_t<A, B> T;
  return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> static inline auto max(A a, B b) {
  typedef std::common_type_t<A, B> T;
  return T(a) < T(b) ? T(b) : T(a);
}
using std::isfinite, std::isinf, std::isnan, std::signbit;
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }

namespace hostcuda {
template <class To, class From> static inline To bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from, "as many bits");
  return memcpy((void *)&to, (const void *)&from, sizeof to), to;
}
}  // namespace hostcuda
static inline float __uint_as_float(unsigned x) { return hostcuda::bits<float>(x); }
static inline float __int_as_float(int x) { return hostcuda::bits<float>(x); }
static inline int __float_as_int(float x) { return hostcuda::bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return hostcuda::bits<unsigned>(x); }
static inline double __longlong_as_double(long long x) { return hostcuda::bits<double>(x); }
static inline long long __double_as_longlong(double x) { return hostcuda::bits<long long>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

// CuPy's own type of 16 bits is used, which needs these.
struct half;
static inline unsigned short __float2half_rn(float x) { return hostcuda::bits<unsigned short>(_Float16(x)); }
static inline float __half2float(unsigned short x) { return float(hostcuda::bits<_Float16>(x)); }
template <class H> static inline unsigned short __half_as_ushort(const H &x) { return hostcuda::bits<unsigned short>(x); }
namespace hostcuda {
struct HalfBits {
  unsigned short x;
  template <class H, std::enable_if_t<std::is_same<H, half>::value, int> = 0> operator H() const { return bits<H>(x); }
};
}  // namespace hostcuda
static inline hostcuda::HalfBits __ushort_as_half(unsigned short x) { return {x}; }

namespace hostcuda {
template <class T, class F> static inline T swap(T *at, F change) {
  const T old = *at;
  return *at = change(old), old;
}
}  // namespace hostcuda
template <class T> static inline T atomicAdd(T *at, T v) { return hostcuda::swap(at, [=](T old) { return T(old + v); }); }
template <class T> static inline T atomicSub(T *at, T v) { return hostcuda::swap(at, [=](T old) { return T(old - v); }); }
template <class T> static inline T atomicMax(T *at, T v) { return hostcuda::swap(at, [=](T old) { return old < v ? v : old; }); }
template <class T> static inline T atomicMin(T *at, T v) { return hostcuda::swap(at, [=](T old) { return v < old ? v : old; }); }
template <class T> static inline T atomicExch(T *at, T v) { return hostcuda::swap(at, [=](T) { return v; }); }
template <class T> static inline T atomicCAS(T *at, T is, T v) { return hostcuda::swap(at, [=](T old) { return old == is ? v : old; }); }

namespace hostcuda {
template <class... A, size_t... I>
static inline void call(void (*kernel)(A...), void **parameters, std::index_sequence<I...>) {
  kernel(*(std::remove_cv_t<std::remove_reference_t<A>> *)parameters[I]...);
}
template <class... A> static inline void call(void (*kernel)(A...), void **parameters) {
  call(kernel, parameters, std::index_sequence_for<A...>{});
}

static void (*kernel_)(void **parameters);
static void **parameters_;
static void enter(unsigned t) {
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  kernel_(parameters_);
}
// Runs all blocks. Without barriers, the threads of a block run one after the other.
static void launch(void (*kernel)(void **), void **parameters, const unsigned *grid, const unsigned *block, bool barriers) {
  kernel_ = kernel, parameters_ = parameters;
  gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
  const unsigned threads = block[0] * block[1] * block[2];
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0]; x++) {
        blockIdx = {x, y, z};
        if (barriers) hostcuda_block(enter, threads);
        else
          for (unsigned t = 0; t < threads; t++) enter(t);
      }
}
}  // namespace hostcuda

template <class T> struct complex { T real, imaginary; };  // CuPy's headers name it; the fit has no complex numbers
#include <cupy/carray.cuh>
