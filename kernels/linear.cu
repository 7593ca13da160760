// C = epilogue(op(A) op(B)), row-major, in 64 x 64 tiles of tile.cuh: f32 storage at f32 accuracy,
// bf16 storage exactly.
//
//   nt  A m x k, B n x k    (a linear layer: both run along k)
//   nn  A m x k, B k x n    (gradient of its input)
//   tn  A k x m, B k x n    (gradient of its weight)
//
// Epilogue, in this order, on the f32 accumulator:
//   v = alpha acc + bias[column]     if `before`: before[i][j] = v     v = act(v)
//   if `slope_of`: v *= act'(slope_of[i][j])  (instead of act)         v += beta C[i][j]
//
// FLOP: 2 m n k. Bytes: s (m k + n k) + 4 m n, each operand again from L2 for every 64 rows of the
// other.

#include "common/tile.cuh"

#define GEMM_ARGS(F) F(const T*, a) F(const T*, b) F(uint64_t, m) F(uint64_t, n) F(uint32_t, k)                  \
    F(uint32_t, stride_a) F(uint32_t, stride_b) F(float, alpha) F(float, beta) F(int, act) F(const float*, bias) \
    F(float*, before) F(const float*, slope_of) F(float*, out) F(uint32_t, stride)
ARGUMENTS_OF(GemmArgs, GEMM_ARGS);

namespace {

enum Activation : int { kIdentity = 0, kRelu = 1, kTanh = 2, kSilu = 3 };

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float activate(int act, float x) {
    if (act == kRelu) return fmaxf(x, 0.0f);
    if (act == kTanh) return tanhf(x);
    if (act == kSilu) return x * sigmoid(x);
    return x;
}

__device__ __forceinline__ float slope(int act, float x) {
    if (act == kRelu) return x > 0 ? 1.0f : 0.0f;
    if (act == kTanh) {
        const float t = tanhf(x);
        return 1.0f - t * t;
    }
    if (act == kSilu) {
        const float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    return 1.0f;
}

struct Epilogue {
    float alpha, beta;
    int act;
    const float* bias;
    float* before;
    const float* slope_of;
    float* out;
    uint32_t stride;
};

template <class T, bool kTurnA, bool kTurnB>
__device__ __forceinline__ void gemm(TileShared<T>& shared, const RowsOf<T>& a, const RowsOf<T>& b, const Epilogue& e) {
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows, col0 = uint64_t(blockIdx.y) * kTileRows;
    float acc[8][4] = {};
    tile_product<kTurnA, kTurnB>(acc, shared, a, row0, b, col0);
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const uint64_t i = row0 + tile_row(c), j = col0 + tile_column(n, c);
            if (i >= a.rows || j >= b.rows) continue;
            const uint64_t at = i * e.stride + j;
            float v = e.alpha * acc[n][c];
            if (e.bias) v += e.bias[j];
            if (e.before) e.before[at] = v;
            v = e.slope_of ? v * slope(e.act, e.slope_of[at]) : activate(e.act, v);
            if (e.beta != 0.0f) v += e.beta * e.out[at];
            e.out[at] = v;
        }
}

}  // namespace

#if defined(RALLREC_HOST)
// For tests, which count banks.
extern "C" int rallrec_host_tile_at(int turned, int row, int k) { return turned ? tile_at<true>(row, k) : tile_at<false>(row, k); }
#endif
RALLREC_CONSTANT(tile_rows, kTileRows);
RALLREC_CONSTANT(tile_shared_f32, sizeof(TileShared<float>));
RALLREC_CONSTANT(tile_shared_bf16, sizeof(TileShared<bf16>));

#define GEMM(NAME, T, TURN_A, TURN_B)                                                                             \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                    \
        NAME(const __grid_constant__ GemmArgs<T> a) {                                                             \
        DYNAMIC_SHARED(bytes);                                                                                    \
        gemm<T, TURN_A, TURN_B>(*reinterpret_cast<TileShared<T>*>(bytes), RowsOf<T>{a.a, a.m, a.k, a.stride_a},   \
                                RowsOf<T>{a.b, a.n, a.k, a.stride_b},                                             \
                                Epilogue{a.alpha, a.beta, a.act, a.bias, a.before, a.slope_of, a.out, a.stride}); \
    }                                                                                                             \
    RALLREC_KERNEL(NAME, kTileThreads);

GEMM(gemm_nt_f32, float, false, false)
GEMM(gemm_nn_f32, float, false, true)
GEMM(gemm_tn_f32, float, true, true)
GEMM(gemm_nt_bf16, bf16, false, false)
GEMM(gemm_nn_bf16, bf16, false, true)
GEMM(gemm_tn_bf16, bf16, true, true)

// out[j] = the sum of column j of x (rows x columns, `stride` apart): a block 32 columns, its 8
// warps every eighth row, then the warps' sums in order.
extern "C" __global__ void __launch_bounds__(256)
    column_sums(const float* x, uint64_t rows, uint32_t columns, uint32_t stride, float* out) {
    SHARED(float, parts, [8][32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t column = blockIdx.x * 32 + lane;
    float sum = 0;
    if (column < columns)
        for (uint64_t row = warp; row < rows; row += 8) sum += x[row * stride + column];
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp || column >= columns) return;
    for (int w = 1; w < 8; w++) sum += parts[w][lane];
    out[column] = sum;
}
RALLREC_KERNEL(column_sums, 256);
