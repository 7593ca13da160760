// Scores of hidden states against the output head without the vocabulary's logits in memory: the
// log-sum-exp and the logits of a few chosen tokens (cross-entropy on answer tokens; Yes / No), and
// the gradient of the logits a panel at a time.
//
// A block makes 64 x 64 tiles of H W^T (tile.cuh; f32 as three planes) for `span` tiles of the
// vocabulary in turn, and keeps for each of its rows a running (maximum, sum of e^(x - maximum)) in
// the registers of four lanes:
//
//                vocabulary ->   | span 0: tiles 0 .. 3 | span 1 | ...        partials[span][row] = (maximum, sum)
//   rows of H  |  64             |  -> (max, sum)       |                     picked[row][j] = logit of ids[row][j], exact
//
// `cross_entropy_reduce` joins a row's partials in order, in f64. A row of -inf alone keeps sum 0;
// the base is then 0, so -inf - -inf cannot arise. NaN is not hidden: the sum keeps it.
//
// Bytes: s (V D + M D) and 8 M V / (64 span) of partials, instead of 8 M V of logits. FLOP: 2 M V
// D; gradient the same again.

#include "common/tile.cuh"

#define LOGITS_GRADIENT_ARGS(F) F(const T*, h) F(const T*, w) F(uint64_t, rows) F(uint64_t, panel)                  \
    F(uint32_t, depth) F(uint32_t, stride_h) F(uint32_t, stride_w) F(uint64_t, column0) F(const uint32_t*, targets) \
    F(const float*, weights) F(const double*, lse) F(T*, out) F(uint32_t, stride)
ARGUMENTS_OF(LogitsGradientArgs, LOGITS_GRADIENT_ARGS);

namespace {

// Adds a tile's row values to (top, total); all four lanes of a row get the same top, each its own
// part of the total.
__device__ __forceinline__ void join(const float (&acc)[8][4], int h, uint64_t col0, uint64_t vocab, float& top, float& total) {
    float most = top;
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int c = 2 * h; c < 2 * h + 2; c++)
            if (col0 + tile_column(n, c) < vocab) most = fmaxf(most, acc[n][c]);
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
    const float base = most == -INFINITY ? 0.0f : most;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int c = 2 * h; c < 2 * h + 2; c++)
            if (col0 + tile_column(n, c) < vocab) sum += fast_exp2((acc[n][c] - base) * kLog2e);
    total = total * fast_exp2((top - base) * kLog2e) + sum;
    top = most;
}

template <class T>
__device__ __forceinline__ void partials(TileShared<T>& shared, const T* h, const T* w, uint64_t rows, uint64_t vocab,
                                         uint32_t depth, uint32_t stride_h, uint32_t stride_w, uint32_t span, const uint32_t* ids,
                                         uint32_t picks, uint32_t id_stride, float2* out, float* picked) {
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows;
    const RowsOf<T> left = {h, rows, depth, stride_h}, right = {w, vocab, depth, stride_w};
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {};
    for (uint32_t i = 0; i < span; i++) {
        const uint64_t col0 = (uint64_t(blockIdx.y) * span + i) * kTileRows;
        if (col0 >= vocab) break;
        float acc[8][4] = {};
        tile_product(acc, shared, left, row0, right, col0);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            join(acc, half, col0, vocab, top[half], total[half]);
            const uint64_t row = row0 + tile_row(2 * half);
            if (row >= rows) continue;
            for (uint32_t j = 0; j < picks; j++) {
                const uint64_t id = ids[row * id_stride + j];
                if (id < col0 || id >= col0 + kTileRows) continue;
#pragma unroll
                for (int n = 0; n < 8; n++)
#pragma unroll
                    for (int c = 2 * half; c < 2 * half + 2; c++)
                        if (col0 + tile_column(n, c) == id) picked[row * picks + j] = acc[n][c];
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(kAllLanes, total[half], 1);
        total[half] += __shfl_xor_sync(kAllLanes, total[half], 2);
        const uint64_t row = row0 + tile_row(2 * half);
        if (threadIdx.x % 4 == 0 && row < rows) out[blockIdx.y * rows + row] = make_float2(top[half], total[half]);
    }
}

// out[row][j] = weight (e^(x - lse) - [column0 + j is the target]) for the columns of one panel.
template <class T>
__device__ __forceinline__ void gradient(TileShared<T>& shared, const T* h, const T* w, uint64_t rows, uint64_t panel,
                                         uint32_t depth, uint32_t stride_h, uint32_t stride_w, uint64_t column0,
                                         const uint32_t* targets, const float* weights, const double* lse, T* out,
                                         uint32_t stride) {
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows, col0 = uint64_t(blockIdx.y) * kTileRows;
    float acc[8][4] = {};
    tile_product(acc, shared, RowsOf<T>{h, rows, depth, stride_h}, row0,
                 RowsOf<T>{w + column0 * stride_w, panel, depth, stride_w}, col0);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint64_t row = row0 + tile_row(2 * half);
        if (row >= rows) continue;
        // The log-sum-exp as two floats: what f32 loses of it comes back in the exponent.
        const float high = float(lse[row]), low = float(lse[row] - double(high)), weight = weights[row];
        const uint64_t target = targets[row];
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int c = 2 * half; c < 2 * half + 2; c++) {
                const uint64_t column = col0 + tile_column(n, c);
                if (column >= panel) continue;
                const float p = fast_exp2((acc[n][c] - high - low) * kLog2e);
                out[row * stride + column] = from_float<T>(weight * (p - (column0 + column == target ? 1.0f : 0.0f)));
            }
    }
}

}  // namespace

#define CROSS_ENTROPY(SUFFIX, T)                                                                                  \
    /* One by one: as one struct these arguments cost the partials of bf16 a block in four. */                    \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                    \
        cross_entropy_partials_##SUFFIX(const T* h, const T* w, uint64_t rows, uint64_t vocab, uint32_t depth,    \
                                        uint32_t stride_h, uint32_t stride_w, uint32_t span, const uint32_t* ids, \
                                        uint32_t picks, uint32_t id_stride, float2* out, float* picked) {         \
        DYNAMIC_SHARED(bytes);                                                                                    \
        partials<T>(*reinterpret_cast<TileShared<T>*>(bytes), h, w, rows, vocab, depth, stride_h, stride_w, span, \
                    ids, picks, id_stride, out, picked);                                                          \
    }                                                                                                             \
    RALLREC_KERNEL(cross_entropy_partials_##SUFFIX, kTileThreads);                                                \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                    \
        cross_entropy_gradient_##SUFFIX(const __grid_constant__ LogitsGradientArgs<T> a) {                        \
        DYNAMIC_SHARED(bytes);                                                                                    \
        gradient<T>(*reinterpret_cast<TileShared<T>*>(bytes), a.h, a.w, a.rows, a.panel, a.depth, a.stride_h,     \
                    a.stride_w, a.column0, a.targets, a.weights, a.lse, a.out, a.stride);                         \
    }                                                                                                             \
    RALLREC_KERNEL(cross_entropy_gradient_##SUFFIX, kTileThreads);

CROSS_ENTROPY(f32, float)
CROSS_ENTROPY(bf16, bf16)

// lse[row] = the log of the sum over all spans, in their order.
extern "C" __global__ void __launch_bounds__(128)
    cross_entropy_reduce(const float2* partials, uint32_t spans, uint64_t rows, double* lse) {
    const uint64_t row = uint64_t(blockIdx.x) * 128 + threadIdx.x;
    if (row >= rows) return;
    float top = -INFINITY;
    for (uint32_t i = 0; i < spans; i++) top = fmaxf(top, partials[i * rows + row].x);
    const double base = top == -INFINITY ? 0.0 : double(top);
    double sum = 0;
    for (uint32_t i = 0; i < spans; i++) {
        const float2 part = partials[i * rows + row];
        sum += double(part.y) * exp(double(part.x) - base);
    }
    lse[row] = base + log(sum);
}
RALLREC_KERNEL(cross_entropy_reduce, 128);
