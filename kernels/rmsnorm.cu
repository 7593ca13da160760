// RMSNorm of rows, y = w x / sqrt(mean(x^2) + eps), with the residual sum that comes before it; and
// its backward.
//
// Layout. Rows begin at 16 bytes; one row holds `heads` heads of `dim` values side by side (1 head:
// a whole row; more: the head norms of Qwen3), each normed for itself. A head belongs to R threads
// (32 up to 1024 values, else 256):
//
//   thread       0        1        ...  R-1      0        ...        16 bytes each, coalesced
//   values       0..V-1   V..2V-1  ...           RV..                V = 4 (f32) or 8 (bf16)
//
// A row is read twice: once for its sum of squares, once to be scaled, then from L1. Sums are f32
// in registers, shuffled in a fixed order, so every run gives the same bits.
//
// Bytes, forward: s (2 M W) + 4 W, with a residual s (4 M W); backward: s (4 M W), weight's
// gradient s (2 M W) + partials. FLOP: 4 M W forward, 8 M W backward. All of it is far below the
// memory ceiling's FLOP: bytes decide.

#include "common/base.cuh"
#include "common/warp.cuh"

#define NORM_ARGS(F) F(T*, x) F(const T*, add) F(const float*, w) F(float, eps) F(uint64_t, rows) F(uint32_t, heads) \
    F(uint32_t, dim) F(uint32_t, stride) F(T*, y) F(float*, rstd)
ARGUMENTS_OF(NormArgs, NORM_ARGS);

#define NORM_BACKWARD_ARGS(F) F(const T*, x) F(const float*, w) F(const float*, rstd) F(const T*, dy) \
    F(uint64_t, rows) F(uint32_t, heads) F(uint32_t, dim) F(uint32_t, stride) F(int, add) F(T*, dx)
ARGUMENTS_OF(NormBackwardArgs, NORM_BACKWARD_ARGS);

namespace {

// Heads of rows: head h of row r begins at base + r * stride + h * dim.
struct Heads {
    uint64_t rows;
    uint32_t heads, dim, stride;
    __device__ __forceinline__ uint64_t at(uint64_t unit) const { return unit / heads * stride + unit % heads * dim; }
};

template <int R> constexpr int block_of = R == 32 ? 128 : R;

// Sum over the R threads of a row; all threads of the block call it.
template <int R> __device__ __forceinline__ float row_sum(float x) {
    x = warp_sum(x);
    if constexpr (R > 32) {
        SHARED(float, parts, [R / 32]);
        __syncthreads();  // the sums of a call before are read
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
        __syncthreads();
        x = parts[0];
#pragma unroll
        for (int w = 1; w < R / 32; w++) x += parts[w];
    }
    return x;
}

// Values of a vector that are inside the row; what pads a row is left as it is read (zero).
template <class T>
__device__ __forceinline__ void load(float (&v)[Vec<T>::size], const T* p) {
    Vec<T> raw;
    raw.load(p);
#pragma unroll
    for (int i = 0; i < Vec<T>::size; i++) v[i] = raw.get(i);
}

template <class T> __device__ __forceinline__ void load_weight(float (&v)[Vec<T>::size], const float* w) {
#pragma unroll
    for (int i = 0; i < Vec<T>::size; i += 4) {
        float four[4];
        load(four, w + i);
#pragma unroll
        for (int j = 0; j < 4; j++) v[i + j] = four[j];
    }
}

template <class T, int R>
__device__ __forceinline__ void forward(T* x, const T* add, const float* w, float eps, Heads shape, T* y, float* rstd) {
    constexpr int V = Vec<T>::size;
    const uint64_t unit = uint64_t(blockIdx.x) * (blockDim.x / R) + threadIdx.x / R;
    const bool live = unit < shape.rows * shape.heads;
    const uint64_t base = live ? shape.at(unit) : 0;
    const uint32_t dim = live ? shape.dim : 0;
    float squares = 0;
    for (uint32_t i = threadIdx.x % R * V; i < dim; i += R * V) {
        float v[V];
        load(v, x + base + i);
        if (add) {
            float more[V];
            load(more, add + base + i);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += more[j];
            Vec<T>::store(x + base + i, v);
            if (sizeof(T) == 2) load(v, x + base + i);  // the rounded sum is what later reads see
        }
#pragma unroll
        for (int j = 0; j < V; j++) squares += v[j] * v[j];
    }
    const float r = 1.0f / sqrtf(row_sum<R>(squares) / float(shape.dim) + eps);
    if (live && rstd && threadIdx.x % R == 0) rstd[unit] = r;
    for (uint32_t i = threadIdx.x % R * V; i < dim; i += R * V) {
        float v[V], g[V];
        load(v, x + base + i);
        load_weight<T>(g, w + i);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = v[j] * r * g[j];
        Vec<T>::store(y + base + i, v);
    }
}

// dx (+)= r (g - xhat mean(g xhat)), g = dy w, xhat = x r.
template <class T, int R>
__device__ __forceinline__ void backward(const T* x, const float* w, const float* rstd, const T* dy, Heads shape, int add,
                                         T* dx) {
    constexpr int V = Vec<T>::size;
    const uint64_t unit = uint64_t(blockIdx.x) * (blockDim.x / R) + threadIdx.x / R;
    const bool live = unit < shape.rows * shape.heads;
    const uint64_t base = live ? shape.at(unit) : 0;
    const uint32_t dim = live ? shape.dim : 0;
    const float r = live ? rstd[unit] : 0.0f;
    float dot = 0;
    for (uint32_t i = threadIdx.x % R * V; i < dim; i += R * V) {
        float v[V], g[V], d[V];
        load(v, x + base + i);
        load(d, dy + base + i);
        load_weight<T>(g, w + i);
#pragma unroll
        for (int j = 0; j < V; j++) dot += d[j] * g[j] * (v[j] * r);
    }
    const float mean = row_sum<R>(dot) / float(shape.dim);
    for (uint32_t i = threadIdx.x % R * V; i < dim; i += R * V) {
        float v[V], g[V], d[V], out[V];
        load(v, x + base + i);
        load(d, dy + base + i);
        load_weight<T>(g, w + i);
        if (add) load(out, dx + base + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float by = r * (d[j] * g[j] - v[j] * r * mean);
            out[j] = add ? out[j] + by : by;
        }
        Vec<T>::store(dx + base + i, out);
    }
}

constexpr int kChunk = 256;

// partials[chunk][column] = the sum over the chunk's rows (heads) of dy x rstd: 32 vectors of
// columns a block, each of its 8 warps every eighth row, then the warps in order.
template <class T>
__device__ __forceinline__ void weight(const T* x, const float* rstd, const T* dy, Heads shape, uint32_t width, float* partials) {
    constexpr int V = Vec<T>::size;
    SHARED(float, parts, [8][32][9]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t column = (blockIdx.y * 32 + lane) * V;
    const uint64_t units = shape.rows * shape.heads, first = uint64_t(blockIdx.x) * kChunk;
    const uint64_t end = min(first + kChunk, units);
    float sum[V] = {};
    if (column < shape.dim)
        for (uint64_t unit = first + warp; unit < end; unit += 8) {
            float v[V], d[V];
            load(v, x + shape.at(unit) + column);
            load(d, dy + shape.at(unit) + column);
            const float r = rstd[unit];
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += d[j] * (v[j] * r);
        }
#pragma unroll
    for (int j = 0; j < V; j++) parts[warp][lane][j] = sum[j];
    __syncthreads();
    if (warp || column >= shape.dim) return;
#pragma unroll
    for (int j = 0; j < V; j++) {
        for (int w = 1; w < 8; w++) sum[j] += parts[w][lane][j];
        if (column + j < width) partials[blockIdx.x * uint64_t(width) + column + j] = sum[j];
    }
}

}  // namespace

RALLREC_CONSTANT(rmsnorm_chunk, kChunk);

#define RMSNORM(SUFFIX, T, R)                                                                         \
    extern "C" __global__ void __launch_bounds__(block_of<R>)                                         \
        rmsnorm_##SUFFIX(const __grid_constant__ NormArgs<T> a) {                                     \
        forward<T, R>(a.x, a.add, a.w, a.eps, Heads{a.rows, a.heads, a.dim, a.stride}, a.y, a.rstd);  \
    }                                                                                                 \
    RALLREC_KERNEL(rmsnorm_##SUFFIX, block_of<R>);                                                    \
    extern "C" __global__ void __launch_bounds__(block_of<R>)                                         \
        rmsnorm_backward_##SUFFIX(const __grid_constant__ NormBackwardArgs<T> a) {                    \
        backward<T, R>(a.x, a.w, a.rstd, a.dy, Heads{a.rows, a.heads, a.dim, a.stride}, a.add, a.dx); \
    }                                                                                                 \
    RALLREC_KERNEL(rmsnorm_backward_##SUFFIX, block_of<R>);

RMSNORM(f32_32, float, 32)
RMSNORM(f32_256, float, 256)
RMSNORM(bf16_32, bf16, 32)
RMSNORM(bf16_256, bf16, 256)

#define RMSNORM_WEIGHT(SUFFIX, T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                    \
        rmsnorm_weight_##SUFFIX(const T* x, const float* rstd, const T* dy, uint64_t rows, uint32_t heads, uint32_t dim, \
                                uint32_t stride, float* partials) {                                                      \
        weight<T>(x, rstd, dy, Heads{rows, heads, dim, stride}, dim, partials);                                          \
    }                                                                                                                    \
    RALLREC_KERNEL(rmsnorm_weight_##SUFFIX, 256);

RMSNORM_WEIGHT(f32, float)
RMSNORM_WEIGHT(bf16, bf16)

// out[j] += the partials of column j in order.
extern "C" __global__ void __launch_bounds__(256)
    rmsnorm_weight_sum(const float* partials, uint64_t chunks, uint32_t dim, float* out) {
    const uint32_t column = blockIdx.x * 256 + threadIdx.x;
    if (column >= dim) return;
    float sum = 0;
    for (uint64_t c = 0; c < chunks; c++) sum += partials[c * dim + column];
    out[column] += sum;
}
RALLREC_KERNEL(rmsnorm_weight_sum, 256);
