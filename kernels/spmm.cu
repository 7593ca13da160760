// One layer of symmetric normalised propagation (LightGCN), without edge values.
//
//   S = B Z        Z' = D^-1 S        total = (total + D^-1/2 S) scale        Z = D^-1/2 X
//
// B is 0/1 and symmetric, so backward is the same kernel, and an edge costs its 4-byte index and
// one gathered row.
//
// Layout. A row of Z has `stride` values, whole 16-byte vectors, its padding zero. Rows are cut on
// the CPU into chunks of at most 256 neighbours, those of long rows first; a warp takes a chunk:
//
//   list      the chunk's neighbours into shared memory, in order; of `filled` rows alone where that is given
//   lane      0 .. L-1         L .. 2L-1      ...            L = lanes a row (4 to 32), 16 bytes each
//   gathers   neighbour 0      neighbour 1    ... 32/L-1     at a time, up to four such gathers in flight
//   ends      + over the groups (shuffle-xor); lanes 0..L-1 hold the row's sum
//
// A batch reads few rows of the layer mean, and its gradient has few rows that are not zero.
// `wanted` and `filled` are a bit a node, or null for all. A row that is not wanted keeps no layer
// mean, and costs the last layer nothing. A row that is not filled is read by nobody: its
// neighbours pass over it, since it is zero.
//
// Rows wider than L vectors are done a block of columns after another. Chunks of long rows leave
// f32 partials, which spmm_reduce adds in order: no atomics, the same bits every run.
//
// Bytes of a layer: nnz (4 + stride s) gathered, mostly from L2; N (stride s + 8 stride + 4) of
// rows written and read. FLOP: nnz stride + 3 N stride.

#include "common/base.cuh"

struct SpmmChunk {
    uint64_t begin;  // into indices
    uint32_t count;
    uint32_t row;
};

struct SpmmLong {
    uint32_t row;
    uint32_t count;   // chunks
    uint64_t first;   // chunk, and partial
};

#define SPMM_LAYER_ARGS(F) F(const T*, z) F(const uint32_t*, indices) F(const SpmmChunk*, chunks)     \
    F(uint64_t, chunk_count) F(uint64_t, partial_count) F(const float*, inv_sqrt) F(uint32_t, stride) \
    F(float, scale) F(float*, partials) F(T*, next) F(float*, total) F(const uint32_t*, wanted)           \
    F(const uint32_t*, filled)
ARGUMENTS_OF(SpmmLayerArgs, SPMM_LAYER_ARGS);

namespace {

constexpr int kThreads = 128;
constexpr int kGathers = 4;
constexpr uint32_t kChunk = 256;  // neighbours of a warp, at most

// Whether `node` is among those that `bits` names; null names all.
__device__ __forceinline__ bool named(const uint32_t* __restrict__ bits, uint32_t node) {
    return !bits || (bits[node / 32] >> node % 32 & 1);
}

// The neighbours that count, in their order, into `list`; how many there are.
__device__ __forceinline__ uint32_t neighbours(const uint32_t* __restrict__ indices, uint32_t count,
                                               const uint32_t* __restrict__ filled, uint32_t* list) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t kept = count;
    if (!filled) {
        for (uint32_t i = lane; i < count; i += 32) list[i] = indices[i];
    } else {
        kept = 0;
        for (uint32_t base = 0; base < count; base += 32) {
            const bool inside = base + lane < count;
            const uint32_t node = inside ? indices[base + lane] : 0u;
            const bool keep = inside && named(filled, node);
            const uint32_t all = __ballot_sync(kAllLanes, keep);
            if (keep) list[kept + __popc(all & ((1u << lane) - 1))] = node;
            kept += __popc(all);
        }
    }
    __syncwarp();
    return kept;
}

// What becomes of V sums of a row; `next` and `total` may be null.
template <class T, int V>
__device__ __forceinline__ void finish_row(const float (&sum)[V], float s, float scale, T* next, float* total) {
    if (next) {
        float z[V];
#pragma unroll
        for (int v = 0; v < V; v++) z[v] = sum[v] * (s * s);
        Vec<T>::store(next, z);
    }
    if (!total) return;
#pragma unroll
    for (int v = 0; v < V; v += 4) {
        Vec<float> old;
        old.load(total + v);
        float out[4];
#pragma unroll
        for (int i = 0; i < 4; i++) out[i] = (old.get(i) + s * sum[v + i]) * scale;
        Vec<float>::store(total + v, out);
    }
}

// Adds the rows of N neighbours, which stand `apart` in `list`.
template <class T, int N, int apart>
__device__ __forceinline__ void gather(const T* __restrict__ z, uint32_t stride, const uint32_t* list, float (&sum)[Vec<T>::size]) {
    uint32_t node[N];
    Vec<T> row[N];
#pragma unroll
    for (int k = 0; k < N; k++) node[k] = list[k * apart];
#pragma unroll
    for (int k = 0; k < N; k++) row[k].load(z + uint64_t(node[k]) * stride);
#pragma unroll
    for (int k = 0; k < N; k++)
#pragma unroll
        for (int v = 0; v < Vec<T>::size; v++) sum[v] += row[k].get(v);
}

template <class T, int L>
__device__ __forceinline__ void layer(const T* __restrict__ z, const uint32_t* __restrict__ indices,
                                      const SpmmChunk* __restrict__ chunks, uint64_t chunk_count, uint64_t partial_count,
                                      const float* __restrict__ inv_sqrt, uint32_t stride, float scale,
                                      float* __restrict__ partials, T* __restrict__ next, float* __restrict__ total,
                                      const uint32_t* __restrict__ wanted, const uint32_t* __restrict__ filled) {
    constexpr int V = Vec<T>::size, kGroups = 32 / L;
    SHARED(uint32_t, lists, [kThreads / 32][kChunk]);
    const uint64_t chunk = uint64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
    if (chunk >= chunk_count) return;
    const SpmmChunk work = chunks[chunk];
    const bool want = named(wanted, work.row);
    if (!want && !next) return;
    uint32_t* list = lists[threadIdx.x / 32];
    const uint32_t count = neighbours(indices + work.begin, work.count, filled, list);
    const int lane = threadIdx.x % 32, group = lane / L;
    for (uint32_t block = 0; block < stride; block += L * V) {
        const uint32_t column = block + lane % L * V;
        const bool inside = column < stride;
        float sum[V] = {};
        if (inside) {
            const T* from = z + column;
            uint32_t i = group;
            for (; i + (kGathers - 1) * kGroups < count; i += kGroups * kGathers) gather<T, kGathers, kGroups>(from, stride, list + i, sum);
            for (; i < count; i += kGroups) gather<T, 1, kGroups>(from, stride, list + i, sum);
        }
#pragma unroll
        for (int apart = L; apart < 32; apart *= 2)
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += __shfl_xor_sync(kAllLanes, sum[v], apart);
        if (group == 0 && inside) {
            if (chunk < partial_count) {
#pragma unroll
                for (int v = 0; v < V; v += 4) {
                    const float part[4] = {sum[v], sum[v + 1], sum[v + 2], sum[v + 3]};
                    Vec<float>::store(partials + chunk * stride + column + v, part);
                }
            } else {
                const uint64_t at = uint64_t(work.row) * stride + column;
                finish_row<T, V>(sum, inv_sqrt[work.row], scale, next ? next + at : nullptr, want ? total + at : nullptr);
            }
        }
    }
}

// Adds the partials of a long row in their order.
template <class T>
__device__ __forceinline__ void reduce(const SpmmLong* __restrict__ rows, const float* __restrict__ partials,
                                       const float* __restrict__ inv_sqrt, uint32_t stride, float scale,
                                       T* __restrict__ next, float* __restrict__ total, const uint32_t* __restrict__ wanted) {
    constexpr int V = Vec<T>::size;
    const SpmmLong row = rows[blockIdx.x];
    const bool want = named(wanted, row.row);
    if (!want && !next) return;
    for (uint32_t column = threadIdx.x * V; column < stride; column += kThreads * V) {
        float sum[V] = {};
        for (uint32_t c = 0; c < row.count; c++) {
#pragma unroll
            for (int v = 0; v < V; v += 4) {
                Vec<float> part;
                part.load(partials + (row.first + c) * stride + column + v);
#pragma unroll
                for (int i = 0; i < 4; i++) sum[v + i] += part.get(i);
            }
        }
        const uint64_t at = uint64_t(row.row) * stride + column;
        finish_row<T, V>(sum, inv_sqrt[row.row], scale, next ? next + at : nullptr, want ? total + at : nullptr);
    }
}

// z = D^-1/2 x, total = x: what the first layer starts from. Rows that are not filled are not read;
// nobody reads their z.
template <class T>
__device__ __forceinline__ void start(const float* __restrict__ x, const float* __restrict__ inv_sqrt, uint64_t values,
                                      uint32_t stride, T* __restrict__ z, float* __restrict__ total,
                                      const uint32_t* __restrict__ wanted, const uint32_t* __restrict__ filled) {
    constexpr int V = Vec<T>::size;
    const uint64_t step = uint64_t(gridDim.x) * kThreads * V;
    for (uint64_t at = (uint64_t(blockIdx.x) * kThreads + threadIdx.x) * V; at < values; at += step) {
        const uint32_t row = uint32_t(at / stride);
        const bool want = named(wanted, row), fill = named(filled, row);
        const float s = inv_sqrt[row];
        float out[V];
#pragma unroll
        for (int v = 0; v < V; v += 4) {
            Vec<float> in;
            in.zero();
            if (fill) in.load(x + at + v);
            float same[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                same[i] = in.get(i);
                out[v + i] = same[i] * s;
            }
            if (want) Vec<float>::store(total + at + v, same);
        }
        if (fill) Vec<T>::store(z + at, out);
    }
}

}  // namespace

#define SPMM_LAYER(NAME, T, L)                                                                               \
    extern "C" __global__ void __launch_bounds__(kThreads, 10)                                               \
        NAME(const __grid_constant__ SpmmLayerArgs<T> a) {                                                   \
        layer<T, L>(a.z, a.indices, a.chunks, a.chunk_count, a.partial_count, a.inv_sqrt, a.stride, a.scale, \
                    a.partials, a.next, a.total, a.wanted, a.filled);                                        \
    }                                                                                                        \
    RALLREC_KERNEL(NAME, kThreads);

SPMM_LAYER(spmm_layer_f32_4, float, 4)
SPMM_LAYER(spmm_layer_f32_8, float, 8)
SPMM_LAYER(spmm_layer_f32_16, float, 16)
SPMM_LAYER(spmm_layer_f32_32, float, 32)
SPMM_LAYER(spmm_layer_bf16_4, bf16, 4)
SPMM_LAYER(spmm_layer_bf16_8, bf16, 8)
SPMM_LAYER(spmm_layer_bf16_16, bf16, 16)
SPMM_LAYER(spmm_layer_bf16_32, bf16, 32)

#define SPMM_REST(SUFFIX, T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                        \
        spmm_reduce_##SUFFIX(const SpmmLong* rows, const float* partials, const float* inv_sqrt, uint32_t stride, \
                             float scale, T* next, float* total, const uint32_t* wanted) {                        \
        reduce<T>(rows, partials, inv_sqrt, stride, scale, next, total, wanted);                                  \
    }                                                                                                             \
    RALLREC_KERNEL(spmm_reduce_##SUFFIX, kThreads);                                                               \
    extern "C" __global__ void __launch_bounds__(kThreads)                                                        \
        spmm_start_##SUFFIX(const float* x, const float* inv_sqrt, uint64_t values, uint32_t stride, T* z,        \
                            float* total, const uint32_t* wanted, const uint32_t* filled) {                       \
        start<T>(x, inv_sqrt, values, stride, z, total, wanted, filled);                                          \
    }                                                                                                             \
    RALLREC_KERNEL(spmm_start_##SUFFIX, kThreads);

SPMM_REST(f32, float)
SPMM_REST(bf16, bf16)

RALLREC_CONSTANT(spmm_chunk, kChunk);
