// A linear layer with adapters: Y = X W^T + S B^T with S = scale X A^T, and its backward. Without
// adapters it is the layer alone, the product that the language model is made of.
//
// One pass. K is concatenated, Y = [X | S] [W | B]^T and dX = [dY | dS] [W ; A]: the adapter is
// ceil(r / 32) more steps of the loop over K, in the same accumulators, before anything is rounded.
// The scale is in S (f32 before it is stored): in bf16 B it would round once more.
//
// Several adapters at once. Tokens are sorted by adapter on the CPU. A tile is some rows of one
// adapter:
//
//   rows      |--- adapter 2 ---|- none -|---- adapter 0 ----|       tile = (first row, end of its segment, adapter)
//   tiles     | 128 | 128 | 37  |  90    | 128 | 128 | 5     |       one launch for all
//
// A of all adapters is one matrix (adapters r) x K, B is (adapters N) x r; an adapter of a lower
// rank is padded with zeros.
//
//   lora_{forward,backward}_bf16    128 x 128 tiles of wide.cuh, four stages of cp.async
//   lora_{forward,backward}_f32     64 x 64 tiles of tile.cuh: f32 as three bf16 planes
//   lora_shrink*                    S or dS: N = r is narrow and K is long, so K is cut over blocks; partials added in order
//   lora_gradient_*                 dB = dY^T S and dA = dS^T X over an adapter's rows, in f32. Outputs are few, so long
//                                   segments are cut over blocks: lora_gradient_sum adds their parts in order
//
// FLOP: 2 M N (K + r) and 2 M K r of the shrink. Bytes: s (M K + N K + M N), S and adapters on top.

#include "common/tile.cuh"
#include "common/wide.cuh"

struct LoraTile {
    uint64_t row;      // first
    uint64_t end;      // of the segment
    uint32_t adapter;  // ~0: none
    uint32_t rows;     // of the segment, from `first`
    uint64_t first;    // row of the segment
};

// Of the layers, forward and backward: operands in the storage of the kernel's name.
#define LORA_ARGS(F) F(const LoraTile*, tiles) F(const void*, x) F(uint32_t, stride_x) F(const void*, w)      \
    F(uint32_t, stride_w) F(const void*, s) F(uint32_t, stride_s) F(const void*, low) F(uint32_t, stride_low) \
    F(uint64_t, columns) F(uint32_t, depth) F(uint32_t, rank) F(const float*, bias) F(int, add) F(void*, out) \
    F(uint32_t, stride)
ARGUMENTS(LoraArgs, LORA_ARGS);

#define ADAPTER_GRADIENT_ARGS(F) F(const LoraTile*, pieces) F(const T*, a) F(uint32_t, stride_a) F(uint32_t, m) \
    F(const T*, b) F(uint32_t, stride_b) F(uint32_t, n) F(float*, partials) F(float*, out) F(uint32_t, stride)
ARGUMENTS_OF(AdapterGradientArgs, ADAPTER_GRADIENT_ARGS);

#define SHRINK_ARGS(F) F(const LoraTile*, tiles) F(const T*, x) F(uint32_t, stride_x) F(const T*, low) \
    F(uint32_t, stride_low) F(uint64_t, rows) F(uint32_t, depth) F(uint32_t, rank) F(uint32_t, span)   \
    F(float*, partials)
ARGUMENTS_OF(ShrinkArgs, SHRINK_ARGS);

namespace {

constexpr uint32_t kNone = ~0u;

template <class U>
__device__ __forceinline__ void put_pair(U* out, uint64_t at, bool first, bool second, float x, float y, const float* bias,
                                         uint64_t column, int add) {
    if (!first) return;
    if (bias) x += bias[column];
    if (add) x += to_float(out[at]);
    out[at] = from_float<U>(x);
    if (!second) return;
    if (bias) y += bias[column + 1];
    if (add) y += to_float(out[at + 1]);
    out[at + 1] = from_float<U>(y);
}

// The adapter's piece of K: forward B (columns x r), backward A (r x columns).
template <bool kTurned, class T>
__device__ __forceinline__ const T* piece_of(const T* low, uint32_t adapter, uint64_t columns, uint32_t rank, uint32_t stride) {
    return low + (kTurned ? uint64_t(adapter) * rank : adapter * columns) * stride;
}

template <bool kTurned, class U>
__device__ __forceinline__ void wide(WideStage* ring, const LoraTile* tiles, const bf16* x, uint32_t stride_x, const bf16* w,
                                     uint32_t stride_w, const bf16* s, uint32_t stride_s, const bf16* low, uint32_t stride_low,
                                     uint64_t columns, uint32_t depth, uint32_t rank, const float* bias, int add, U* out,
                                     uint32_t stride) {
    const LoraTile tile = tiles[blockIdx.x];
    const uint64_t col0 = uint64_t(blockIdx.y) * kWideRows;
    const WidePiece first = {x, w, stride_x, stride_w, depth};
    WidePiece second = {s, low, stride_s, stride_low, 0};
    if (tile.adapter != kNone) {
        second.b = piece_of<kTurned>(low, tile.adapter, columns, rank, stride_low);
        second.depth = rank;
    }
    float acc[4][4][4] = {};
    wide_product<kTurned>(acc, ring, first, second, tile.row, tile.end, col0, columns);
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int c = 0; c < 4; c += 2) {
                const uint64_t i = tile.row + wide_row(m, c), j = col0 + wide_column(n);
                put_pair(out, i * stride + j, i < tile.end && j < columns, j + 1 < columns, acc[m][n][c], acc[m][n][c + 1], bias,
                         j, add);
            }
}

template <bool kTurned>
__device__ __forceinline__ void exact(TileShared<float>& shared, const LoraTile* tiles, const float* x, uint32_t stride_x,
                                      const float* w, uint32_t stride_w, const float* s, uint32_t stride_s, const float* low,
                                      uint32_t stride_low, uint64_t columns, uint32_t depth, uint32_t rank, const float* bias,
                                      int add, float* out, uint32_t stride) {
    const LoraTile tile = tiles[blockIdx.x];
    const uint64_t col0 = uint64_t(blockIdx.y) * kTileRows;
    float acc[8][4] = {};
    tile_product<false, kTurned>(acc, shared, RowsOf<float>{x, tile.end, depth, stride_x}, tile.row,
                                 RowsOf<float>{w, columns, depth, stride_w}, col0);
    if (tile.adapter != kNone) {
        const float* b = piece_of<kTurned>(low, tile.adapter, columns, rank, stride_low);
        tile_product<false, kTurned>(acc, shared, RowsOf<float>{s, tile.end, rank, stride_s}, tile.row,
                                     RowsOf<float>{b, columns, rank, stride_low}, col0);
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int c = 0; c < 4; c += 2) {
            const uint64_t i = tile.row + tile_row(c), j = col0 + tile_column(n, 0);
            put_pair(out, i * stride + j, i < tile.end && j < columns, j + 1 < columns, acc[n][c], acc[n][c + 1], bias, j, add);
        }
}

// partials[split][row][j] = the part of (X A^T) or, turned, (dY B), of steps `span` of K.
template <bool kTurned, class T>
__device__ __forceinline__ void shrink(TileShared<T>& shared, const LoraTile* tiles, const T* x, uint32_t stride_x, const T* low,
                                       uint32_t stride_low, uint64_t rows, uint32_t depth, uint32_t rank, uint32_t span,
                                       float* partials) {
    const LoraTile tile = tiles[blockIdx.x];
    if (tile.adapter == kNone) return;
    const uint64_t col0 = uint64_t(blockIdx.y) * kTileRows;
    const uint32_t k0 = blockIdx.z * span, here = min(depth - k0, span);
    // A is r x K and cut along its rows; B is N x r (N is the depth of dY B) and cut along its
    // columns.
    const T* b = kTurned ? low + (uint64_t(tile.adapter) * depth + k0) * stride_low
                         : low + uint64_t(tile.adapter) * rank * stride_low + k0;
    float acc[8][4] = {};
    tile_product<false, kTurned>(acc, shared, RowsOf<T>{x + k0, tile.end, here, stride_x}, tile.row,
                                 RowsOf<T>{b, rank, here, stride_low}, col0);
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const uint64_t i = tile.row + tile_row(c), j = col0 + tile_column(n, c);
            if (i < tile.end && j < rank) partials[(blockIdx.z * rows + i) * rank + j] = acc[n][c];
        }
}

// out = scale times the partials, added in order; rows of tiles that have an adapter.
template <class T>
__device__ __forceinline__ void shrink_sum(const LoraTile* tiles, const float* partials, uint32_t splits, uint64_t rows,
                                           uint32_t rank, float scale, T* out, uint32_t stride) {
    const LoraTile tile = tiles[blockIdx.x];
    const uint64_t end = min(tile.end, tile.row + kTileRows);
    const uint64_t values = (end - tile.row) * rank;
    for (uint64_t at = threadIdx.x; at < values; at += 256) {
        const uint64_t i = tile.row + at / rank;
        const uint32_t j = uint32_t(at % rank);
        float sum = 0;
        if (tile.adapter != kNone)
            for (uint32_t z = 0; z < splits; z++) sum += partials[(z * rows + i) * rank + j];
        out[i * stride + j] = from_float<T>(scale * sum);
    }
}

// out[adapter] += A^T B over a piece of the adapter's rows: A is rows x m, B is rows x n; out is
// (adapters m) x n. With `partials`, pieces x m x n, each piece's sum goes there instead.
template <class T>
__device__ __forceinline__ void gradient(TileShared<T>& shared, const LoraTile* pieces, const T* a, uint32_t stride_a, uint32_t m,
                                         const T* b, uint32_t stride_b, uint32_t n, float* partials, float* out, uint32_t stride) {
    const LoraTile piece = pieces[blockIdx.z];
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows, col0 = uint64_t(blockIdx.y) * kTileRows;
    float acc[8][4] = {};
    tile_product<true, true>(acc, shared, RowsOf<T>{a + piece.first * stride_a, m, piece.rows, stride_a}, row0,
                             RowsOf<T>{b + piece.first * stride_b, n, piece.rows, stride_b}, col0);
#pragma unroll
    for (int k = 0; k < 8; k++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const uint64_t i = row0 + tile_row(c), j = col0 + tile_column(k, c);
            if (i >= m || j >= n) continue;
            if (partials)
                partials[(uint64_t(blockIdx.z) * m + i) * n + j] = acc[k][c];
            else
                out[(uint64_t(piece.adapter) * m + i) * stride + j] += acc[k][c];
        }
}

}  // namespace

RALLREC_CONSTANT(wide_rows, kWideRows);
RALLREC_CONSTANT(wide_shared, kWideStages * sizeof(WideStage));

#define LORA_WIDE(NAME, U, TURNED)                                                                             \
    extern "C" __global__ void __launch_bounds__(kWideThreads, 2)                                              \
        NAME(const __grid_constant__ LoraArgs a) {                                                             \
        DYNAMIC_SHARED(bytes);                                                                                 \
        wide<TURNED>(reinterpret_cast<WideStage*>(bytes), a.tiles, static_cast<const bf16*>(a.x), a.stride_x,  \
                     static_cast<const bf16*>(a.w), a.stride_w, static_cast<const bf16*>(a.s), a.stride_s,     \
                     static_cast<const bf16*>(a.low), a.stride_low, a.columns, a.depth, a.rank, a.bias, a.add, \
                     static_cast<U*>(a.out), a.stride);                                                        \
    }                                                                                                          \
    RALLREC_KERNEL(NAME, kWideThreads);

LORA_WIDE(lora_forward_bf16, bf16, false)
LORA_WIDE(lora_backward_bf16, bf16, true)
LORA_WIDE(lora_forward_bf16_f32, float, false)
LORA_WIDE(lora_backward_bf16_f32, float, true)

#define LORA_EXACT(NAME, TURNED)                                                                              \
    extern "C" __global__ void __launch_bounds__(kTileThreads, 2)                                             \
        NAME(const __grid_constant__ LoraArgs a) {                                                            \
        DYNAMIC_SHARED(bytes);                                                                                \
        exact<TURNED>(*reinterpret_cast<TileShared<float>*>(bytes), a.tiles, static_cast<const float*>(a.x),  \
                      a.stride_x, static_cast<const float*>(a.w), a.stride_w, static_cast<const float*>(a.s), \
                      a.stride_s, static_cast<const float*>(a.low), a.stride_low, a.columns, a.depth, a.rank, \
                      a.bias, a.add, static_cast<float*>(a.out), a.stride);                                   \
    }                                                                                                         \
    RALLREC_KERNEL(NAME, kTileThreads);

LORA_EXACT(lora_forward_f32, false)
LORA_EXACT(lora_backward_f32, true)

#define LORA_REST(SUFFIX, T)                                                                                     \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                   \
        lora_shrink_##SUFFIX(const __grid_constant__ ShrinkArgs<T> a) {                                          \
        DYNAMIC_SHARED(bytes);                                                                                   \
        shrink<false>(*reinterpret_cast<TileShared<T>*>(bytes), a.tiles, a.x, a.stride_x, a.low, a.stride_low,   \
                      a.rows, a.depth, a.rank, a.span, a.partials);                                              \
    }                                                                                                            \
    RALLREC_KERNEL(lora_shrink_##SUFFIX, kTileThreads);                                                          \
    /* With f32 it spills in the registers that three blocks leave. */                                           \
    extern "C" __global__ void __launch_bounds__(kTileThreads, Planes<T>::count == 1 ? 5 : 2)                    \
        lora_shrink_turned_##SUFFIX(const __grid_constant__ ShrinkArgs<T> a) {                                   \
        DYNAMIC_SHARED(bytes);                                                                                   \
        shrink<true>(*reinterpret_cast<TileShared<T>*>(bytes), a.tiles, a.x, a.stride_x, a.low, a.stride_low,    \
                     a.rows, a.depth, a.rank, a.span, a.partials);                                               \
    }                                                                                                            \
    RALLREC_KERNEL(lora_shrink_turned_##SUFFIX, kTileThreads);                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                            \
        lora_shrink_sum_##SUFFIX(const LoraTile* tiles, const float* partials, uint32_t splits, uint64_t rows,   \
                                 uint32_t rank, float scale, T* out, uint32_t stride) {                          \
        shrink_sum<T>(tiles, partials, splits, rows, rank, scale, out, stride);                                  \
    }                                                                                                            \
    RALLREC_KERNEL(lora_shrink_sum_##SUFFIX, 256);                                                               \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                   \
        lora_gradient_##SUFFIX(const __grid_constant__ AdapterGradientArgs<T> a) {                               \
        DYNAMIC_SHARED(bytes);                                                                                   \
        gradient<T>(*reinterpret_cast<TileShared<T>*>(bytes), a.pieces, a.a, a.stride_a, a.m, a.b, a.stride_b,   \
                    a.n, a.partials, a.out, a.stride);                                                           \
    }                                                                                                            \
    RALLREC_KERNEL(lora_gradient_##SUFFIX, kTileThreads);

LORA_REST(f32, float)
LORA_REST(bf16, bf16)

// out[adapter] += its pieces' parts in their order: pieces `row` .. `end` of each segment.
extern "C" __global__ void __launch_bounds__(256)
    lora_gradient_sum(const LoraTile* segments, const float* partials, uint32_t m, uint32_t n, float* out, uint32_t stride) {
    const LoraTile segment = segments[blockIdx.y];
    const uint64_t values = uint64_t(m) * n, at = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (at >= values) return;
    float sum = 0;
    for (uint64_t piece = segment.row; piece < segment.end; piece++) sum += partials[piece * values + at];
    out[(uint64_t(segment.adapter) * m + at / n) * stride + at % n] += sum;
}
RALLREC_KERNEL(lora_gradient_sum, 256);
