// InfoNCE in both directions over n pairs of rows, forward and backward, never an n x n matrix.
//
//   s_ij = sim(x_i, y_j) / tau     loss = w mean_i [ lse_j s_ij - s_ii + lse_j s_ji - s_ii ]
//
// infonce_bounded.cu does it for cosines of rows that fit into shared memory; here are the kernels
// for everything else (inner products, tau below 1/40, wider rows), and those that both share
// (norms, finish, terms).
//
//   infonce_norms     1/|row| (or 1 for inner products; 0 for a zero row), a warp a row
//   infonce_lse       a block owns 64 rows of A and walks over all rows of B in 64 x 64 tiles of tile.cuh; every lane
//                     keeps (max, sum) of its part of two rows, joined by shuffles at the end. Once with (X, Y), once with
//                     (Y, X): that is 2 n^2 d FLOP more than column partials would need, and no memory for them.
//   infonce_backward  a block owns 64 rows of A and 64 columns of their gradient: makes the tile of S again, turns it into
//                     G = w (exp(s - lse_i) + exp(s - lse_j) - 2 [i = j]) in registers, and multiplies by the rows of B:
//
//            j: 64 rows of B            columns c .. c+63 of B
//        i  +-----------+             +-----------+
//        64 | G (regs)  |  x   j  64  | B (shared)|  -> 16 x 64 a warp of sum_j G_ij inv_j B_j
//           +-----------+             +-----------+
//
//                     The accumulator layout of S is the operand layout of the next product: G never leaves registers.
//                     With (X, Y) it gives dX, with (Y, X) dY. d(tau) falls out of sum G s (first column block of X).
//   infonce_finish    the derivative of the normalisation, a warp a row
//
// Rows are scaled on the scores (1/|x_i| 1/|y_j|), not before: storage is not rounded a second
// time. Per row i and lane quad all sums run over j in one order: the same bits every run.
//
// FLOP: 4 n^2 d for both lse passes; of the backward, for dX and dY each, 2 n^2 d to make S again
// for every 64 columns of the gradient and 2 n^2 d to multiply. Bytes: 4 n (d s + 4) beside tiles
// that stay in L2.

#include "common/tile.cuh"
#include "common/warp.cuh"

#define LSE_ARGS(F) F(const T*, a) F(const T*, b) F(uint64_t, rows) F(uint32_t, dim) F(uint32_t, stride) \
    F(const float*, inv_a) F(const float*, inv_b) F(float, scale) F(float*, out) F(float*, diagonal)
ARGUMENTS_OF(LseArgs, LSE_ARGS);

#define CONTRAST_BACKWARD_ARGS(F) F(const T*, a) F(const T*, b) F(uint64_t, rows) F(uint32_t, dim)                  \
    F(uint32_t, stride) F(const float*, inv_a) F(const float*, inv_b) F(const float*, lse_a) F(const float*, lse_b) \
    F(float, scale) F(float, weight) F(float*, out) F(uint32_t, out_stride) F(float*, by_tau)
ARGUMENTS_OF(ContrastBackwardArgs, CONTRAST_BACKWARD_ARGS);

#define FINISH_ARGS(F) F(const T*, x) F(uint64_t, rows) F(uint32_t, dim) F(uint32_t, stride) F(int, cosine) \
    F(float, inv_tau) F(const float*, inverse) F(float*, g) F(uint32_t, g_stride)
ARGUMENTS_OF(FinishArgs, FINISH_ARGS);

namespace {

// Joins (max, sum of 2^(v - max)) pairs; an empty one is (-inf, 0).
__device__ __forceinline__ void join(float& m, float& l, float om, float ol) {
    const float top = fmaxf(m, om);
    if (top == -INFINITY) return;
    l = l * fast_exp2(m - top) + ol * fast_exp2(om - top);
    m = top;
}

template <class T>
__device__ __forceinline__ void norms(const T* __restrict__ x, uint64_t rows, uint32_t dim, uint32_t stride, int cosine,
                                      float* __restrict__ inverse) {
    const uint64_t row = (uint64_t(blockIdx.x) * kTileThreads + threadIdx.x) / 32;
    if (row >= rows) return;
    float sum = 0;
    if (cosine)
        for (uint32_t c = threadIdx.x % 32; c < dim; c += 32) {
            const float v = to_float(x[row * stride + c]);
            sum += v * v;
        }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) inverse[row] = !cosine ? 1.0f : sum > 0 ? 1.0f / sqrtf(sum) : 0.0f;
}

// For sm_100 the compiler has to be told how many blocks an SM registers are left for, and beside a
// sum for promotion (common/tile.cuh) the backward would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool kPromote = false;
#define LSE_BLOCKS 2
#else
constexpr bool kPromote = true;
#define LSE_BLOCKS 0
#endif

// lse[i] in base 2, and the score of the pair (i, i) in base 2.
template <class T>
__device__ __forceinline__ void lse(TileShared<T>& shared, const RowsOf<T>& a, const RowsOf<T>& b,
                                    const float* __restrict__ inv_a, const float* __restrict__ inv_b, float scale,
                                    float* __restrict__ out, float* __restrict__ diagonal) {
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows;
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0}, mine[2];
    for (int h = 0; h < 2; h++) {
        const uint64_t i = row0 + tile_row(2 * h);
        mine[h] = i < a.rows ? inv_a[i] * scale : 0;
    }
    for (uint64_t col0 = 0; col0 < b.rows; col0 += kTileRows) {
        float acc[8][4] = {};
        tile_product(acc, shared, a, row0, b, col0);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint64_t i = row0 + tile_row(2 * h);
            float top = m[h];
#pragma unroll
            for (int n = 0; n < 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    const uint64_t j = col0 + tile_column(n, c);
                    float& s = acc[n][2 * h + c];
                    s = j < b.rows ? s * (mine[h] * inv_b[j]) : -INFINITY;
                    if (diagonal && j == i && i < a.rows) diagonal[i] = s;
                    top = fmaxf(top, s);
                }
            if (top == -INFINITY) continue;
            float sum = l[h] * fast_exp2(m[h] - top);
#pragma unroll
            for (int n = 0; n < 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) sum += fast_exp2(acc[n][2 * h + c] - top);
            m[h] = top;
            l[h] = sum;
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int apart = 1; apart < 4; apart *= 2) {
            const float om = __shfl_xor_sync(kAllLanes, m[h], apart), ol = __shfl_xor_sync(kAllLanes, l[h], apart);
            // The lower lane's pair first in both lanes: the same bits in each.
            if (threadIdx.x & apart) {
                float lm = om, ll = ol;
                join(lm, ll, m[h], l[h]);
                m[h] = lm, l[h] = ll;
            } else {
                join(m[h], l[h], om, ol);
            }
        }
        const uint64_t i = row0 + tile_row(2 * h);
        if (threadIdx.x % 4 == 0 && i < a.rows) out[i] = m[h] + log2f(l[h]);
    }
}

constexpr int kBlock = 64;             // columns of the gradient that a block owns
constexpr int kBlockPitch = kBlock + 8;  // 144 bytes: eight rows of an ldmatrix in different banks

template <class T> struct BackwardShared {
    TileShared<T> tile;
    uint16_t rows[Planes<T>::count][kTileRows][kBlockPitch];
};

template <class T>
__device__ __forceinline__ void backward(BackwardShared<T>& shared, const RowsOf<T>& a, const RowsOf<T>& b,
                                         const float* __restrict__ inv_a, const float* __restrict__ inv_b,
                                         const float* __restrict__ lse_a, const float* __restrict__ lse_b, float scale,
                                         float weight, float* __restrict__ out, uint32_t out_stride, float* __restrict__ by_tau) {
    constexpr int P = Planes<T>::count;
    const int lane = threadIdx.x % 32;
    const uint64_t row0 = uint64_t(blockIdx.x) * kTileRows;
    const uint32_t first = blockIdx.y * kBlock;
    float sum[8][4] = {}, tau[2] = {0, 0}, mine[2], own[2];
    for (int h = 0; h < 2; h++) {
        const uint64_t i = row0 + tile_row(2 * h);
        mine[h] = i < a.rows ? inv_a[i] * scale : 0;
        own[h] = i < a.rows ? lse_a[i] : 0;
    }
    for (uint64_t col0 = 0; col0 < b.rows; col0 += kTileRows) {
        float acc[8][4] = {};
        tile_product<false, false, kPromote>(acc, shared.tile, a, row0, b, col0);
        // The columns that this block sums, of the same rows of B.
        for (int at = threadIdx.x; at < kTileRows * kBlock / 2; at += kTileThreads) {
            const int j = at / (kBlock / 2), c = at % (kBlock / 2) * 2;
            const uint32_t left = col0 + j < b.rows && first + c < b.depth ? b.depth - first - c : 0;
            const T* from = b.base + (col0 + j) * b.stride + first + c;
            uint32_t planes[P];
            split_pair(left > 0 ? to_float(from[0]) : 0.0f, left > 1 ? to_float(from[1]) : 0.0f, planes);
#pragma unroll
            for (int p = 0; p < P; p++) *reinterpret_cast<uint32_t*>(&shared.rows[p][j][c]) = planes[p];
        }
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const uint64_t i = row0 + tile_row(c), j = col0 + tile_column(n, c);
                float g = 0;
                if (i < a.rows && j < b.rows) {
                    const float inv = inv_b[j], s = acc[n][c] * (mine[c / 2] * inv);
                    g = weight * (fast_exp2(s - own[c / 2]) + fast_exp2(s - lse_b[j]) - (i == j ? 2.0f : 0.0f));
                    tau[c / 2] += g * s;
                    g *= inv;
                }
                acc[n][c] = g;
            }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < 4; k++) {
            // Columns 16 k .. of G as the left operand: its two 8-column accumulators are its two
            // halves.
            uint32_t left[P][4];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const float* pair = &acc[2 * k + r / 2][r % 2 * 2];
                uint32_t planes[P];
                split_pair(pair[0], pair[1], planes);
#pragma unroll
                for (int p = 0; p < P; p++) left[p][r] = planes[p];
            }
#pragma unroll
            for (int n = 0; n < 8; n += 2) {
                uint32_t right[2][P][2];
#pragma unroll
                for (int p = 0; p < P; p++) {
                    uint32_t four[4];
                    ldmatrix_x4_trans(four, &shared.rows[p][16 * k + lane % 16][8 * n + lane / 16 * 8]);
                    right[0][p][0] = four[0], right[0][p][1] = four[1];
                    right[1][p][0] = four[2], right[1][p][1] = four[3];
                }
                mma_planes<P, kPromote>(sum[n], left, right[0]);
                mma_planes<P, kPromote>(sum[n + 1], left, right[1]);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint64_t i = row0 + tile_row(2 * h);
        float t = tau[h] + __shfl_xor_sync(kAllLanes, tau[h], 1);
        t += __shfl_xor_sync(kAllLanes, t, 2);
        if (by_tau && blockIdx.y == 0 && threadIdx.x % 4 == 0 && i < a.rows) by_tau[i] = t;
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const uint32_t column = first + tile_column(n, c);
                if (i < a.rows && column < a.depth) out[i * out_stride + column] = sum[n][2 * h + c];
            }
    }
}

// by x_i = (g - (g . u) u) / (tau |x|) with u = x / |x|; g is what `backward` gave, in place.
template <class T>
__device__ __forceinline__ void finish(const T* __restrict__ x, uint64_t rows, uint32_t dim, uint32_t stride, int cosine,
                                       float inv_tau, const float* __restrict__ inverse, float* __restrict__ g, uint32_t g_stride) {
    const uint64_t row = (uint64_t(blockIdx.x) * kTileThreads + threadIdx.x) / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    const float inv = inverse[row];
    float along = 0;
    if (cosine)
        for (uint32_t c = lane; c < dim; c += 32) along += g[row * g_stride + c] * (to_float(x[row * stride + c]) * inv);
    along = warp_sum(along);
    for (uint32_t c = lane; c < dim; c += 32) {
        const float v = g[row * g_stride + c];
        g[row * g_stride + c] = inv_tau * inv * (cosine ? v - along * (to_float(x[row * stride + c]) * inv) : v);
    }
}

}  // namespace

RALLREC_CONSTANT(infonce_columns, kBlock);
RALLREC_CONSTANT(infonce_shared_f32, sizeof(BackwardShared<float>));
RALLREC_CONSTANT(infonce_shared_bf16, sizeof(BackwardShared<bf16>));

// scale = log2(e) / tau in every kernel: scores and log-sums are in base 2.
#define INFONCE(SUFFIX, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                         \
        infonce_norms_##SUFFIX(const T* x, uint64_t rows, uint32_t dim, uint32_t stride, int cosine, float* inverse) { \
        norms<T>(x, rows, dim, stride, cosine, inverse);                                                               \
    }                                                                                                                  \
    RALLREC_KERNEL(infonce_norms_##SUFFIX, kTileThreads);                                                              \
    extern "C" __global__ void __launch_bounds__(kTileThreads, LSE_BLOCKS)                                             \
        infonce_lse_##SUFFIX(const __grid_constant__ LseArgs<T> a) {                                                   \
        DYNAMIC_SHARED(bytes);                                                                                         \
        lse<T>(*reinterpret_cast<TileShared<T>*>(bytes), RowsOf<T>{a.a, a.rows, a.dim, a.stride},                      \
               RowsOf<T>{a.b, a.rows, a.dim, a.stride}, a.inv_a, a.inv_b, a.scale, a.out, a.diagonal);                 \
    }                                                                                                                  \
    RALLREC_KERNEL(infonce_lse_##SUFFIX, kTileThreads);                                                                \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                         \
        infonce_backward_##SUFFIX(const __grid_constant__ ContrastBackwardArgs<T> a) {                                 \
        DYNAMIC_SHARED(bytes);                                                                                         \
        backward<T>(*reinterpret_cast<BackwardShared<T>*>(bytes), RowsOf<T>{a.a, a.rows, a.dim, a.stride},             \
                    RowsOf<T>{a.b, a.rows, a.dim, a.stride}, a.inv_a, a.inv_b, a.lse_a, a.lse_b, a.scale, a.weight,    \
                    a.out, a.out_stride, a.by_tau);                                                                    \
    }                                                                                                                  \
    RALLREC_KERNEL(infonce_backward_##SUFFIX, kTileThreads);                                                           \
    extern "C" __global__ void __launch_bounds__(kTileThreads)                                                         \
        infonce_finish_##SUFFIX(const __grid_constant__ FinishArgs<T> a) {                                             \
        finish<T>(a.x, a.rows, a.dim, a.stride, a.cosine, a.inv_tau, a.inverse, a.g, a.g_stride);                      \
    }                                                                                                                  \
    RALLREC_KERNEL(infonce_finish_##SUFFIX, kTileThreads);

INFONCE(f32, float)
INFONCE(bf16, bf16)

// terms[i] = lse_x[i] + lse_y[i] - 2 diagonal[i] in base e, and as f64 -by_tau[i] likewise: what
// sum_f64 then adds.
extern "C" __global__ void __launch_bounds__(kTileThreads)
    infonce_terms(const float* lse_x, const float* lse_y, const float* diagonal, const float* by_tau, uint64_t rows, double* terms) {
    const uint64_t i = uint64_t(blockIdx.x) * kTileThreads + threadIdx.x;
    if (i >= rows) return;
    terms[i] = double(kLn2) * (double(lse_x[i]) + double(lse_y[i]) - 2.0 * double(diagonal[i]));
    terms[rows + i] = -double(kLn2) * double(by_tau[i]);
}
RALLREC_KERNEL(infonce_terms, kTileThreads);
