// Y = X W^T for a few rows of X (the decode step), W in bf16 or as 4- and 8-bit blocks that are
// dequantised in registers.
//
// What bounds it is reading W once. So W is the 16-row operand of the matrix instruction and up to
// 8 NT rows of X are its columns; no shared memory stands between the weights and the instruction:
//
//   block   16 rows of W, eight warps; warp w takes blocks w, w + 8, ... of 32 values of K
//   lane    4 g + t: rows g and g + 8; of a block's 32 values the ones below
//             bf16, Q8_0   8 t .. 8 t + 7                        (16 or 8 bytes)
//             Q4           4 t .. 4 t + 3, 16 + 4 t .. 16 + 4 t + 3  (4 bytes: low and high nibbles)
//
// Any order of K is as good as another if both operands use it: a lane feeds what it has, as it
// lies, and takes the same places of X. Quants are small integers, exact in bf16: the two
// instructions of a block sum q x exactly as bf16 would, then the block's scale multiplies the f32
// sum (and Q4_1's minimum the sum of x, which an instruction with a matrix of ones gives in the
// same layout). f32 rows of X are three bf16 planes. Warps are added in order.
//
// How blocks are stored, and how small integers become bf16: common/blocks.cuh.
//
// An adapter is a longer K here as well: the rows of S = scale X A^T against those of B, a few more
// blocks of the same loop. In a step of a bf16 model (decode_step_*) Y is bf16 too, rounded once.
//
// Grid: rows of X run fastest, so that blocks that share rows of W follow each other: memory is
// read once for any number of rows.
//
// Bytes: N K (2, 1.0625, 0.5625 or 0.625) + s M K + 4 M N. FLOP: 2 M N K.

#include "common/blocks.cuh"
#include "common/mma.cuh"
#include "common/tile.cuh"

#define FEW_ROWS_ARGS(F) F(const void*, values) F(const uint16_t*, scale) F(const uint16_t*, minimum)                \
    F(uint32_t, out) F(uint32_t, depth) F(uint32_t, stride_w) F(const T*, x) F(uint64_t, rows) F(uint32_t, stride_x) \
    F(const float*, bias) F(int, add) F(float*, y) F(uint32_t, stride_y)
ARGUMENTS_OF(FewRowsArgs, FEW_ROWS_ARGS);

#define STEP_ARGS(F) F(const bf16*, w) F(uint32_t, out) F(uint32_t, depth) F(uint32_t, stride_w) F(const bf16*, x) \
    F(uint64_t, rows) F(uint32_t, stride_x) F(const bf16*, b) F(const bf16*, s) F(uint32_t, rank)                  \
    F(uint32_t, stride_b) F(uint32_t, stride_s) F(const float*, bias) F(int, add) F(bf16*, y) F(uint32_t, stride_y)
ARGUMENTS(StepArgs, STEP_ARGS);

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kAhead = 4;

// A lane's share of a block of one row: four pairs, in the order of the instruction's slots.
struct Bf16 {
    static constexpr bool kScaled = false, kMinimum = false, kNibbles = false;
    using Raw = uint4;
    static __device__ __forceinline__ Raw load(const Weights& w, uint64_t row, uint32_t block, int t) {
        const uint32_t column = block * 32 + 8 * t;
        if (row >= w.rows || column >= w.stride) return make_uint4(0, 0, 0, 0);
        return *reinterpret_cast<const uint4*>(static_cast<const bf16*>(w.values) + row * w.stride + column);
    }
    static __device__ __forceinline__ void dequantise(Raw raw, uint32_t (&pairs)[4]) {
        pairs[0] = raw.x, pairs[1] = raw.y, pairs[2] = raw.z, pairs[3] = raw.w;
    }
};

// The same places of a row of X, as planes of pairs.
template <class F>
__device__ __forceinline__ void take(uint32_t (&planes)[1][4], const bf16* x, uint32_t column, uint32_t stride, int t) {
    const uint32_t first = column + (F::kNibbles ? 4 : 8) * t, second = first + (F::kNibbles ? 16 : 4);
    uint2 a = make_uint2(0, 0), b = a;
    if (first < stride) a = *reinterpret_cast<const uint2*>(x + first);
    if (second < stride) b = *reinterpret_cast<const uint2*>(x + second);
    planes[0][0] = a.x, planes[0][1] = a.y, planes[0][2] = b.x, planes[0][3] = b.y;
}

template <class F>
__device__ __forceinline__ void take(uint32_t (&planes)[3][4], const float* x, uint32_t column, uint32_t stride, int t) {
    const uint32_t first = column + (F::kNibbles ? 4 : 8) * t, second = first + (F::kNibbles ? 16 : 4);
    Vec<float> halves[2];
    halves[0].zero();
    halves[1].zero();
    if (first < stride) halves[0].load(x + first);
    if (second < stride) halves[1].load(x + second);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t pair[3];
        split_pair(halves[i / 2].get(i % 2 * 2), halves[i / 2].get(i % 2 * 2 + 1), pair);
#pragma unroll
        for (int p = 0; p < 3; p++) planes[p][i] = pair[p];
    }
}

// acc += A X of a block: smallest plane first.
template <int P>
__device__ __forceinline__ void block_product(float (&acc)[4], const uint32_t (&low)[4], const uint32_t (&high)[4],
                                              const uint32_t (&x)[P][4]) {
    const uint32_t a0[4] = {low[0], high[0], low[1], high[1]}, a1[4] = {low[2], high[2], low[3], high[3]};
#pragma unroll
    for (int p = P - 1; p >= 0; p--) {
        const uint32_t b0[2] = {x[p][0], x[p][1]}, b1[2] = {x[p][2], x[p][3]};
        mma_bf16(acc, a0, b0);
        mma_bf16(acc, a1, b1);
    }
}

// The adapter's part: `b` (out x rank) and the rows of S; rank 0 where there is none.
struct LowRank {
    const bf16* b;
    const bf16* s;
    uint32_t rank, stride_b, stride_s;
};

template <class F, int NT, class T, class U>
__device__ __forceinline__ void decode(const Weights& w, const T* x, uint64_t rows, uint32_t stride_x, const LowRank& low_rank,
                                       const float* bias, int add, U* y, uint32_t stride_y) {
    constexpr int P = Planes<T>::count;
    SHARED(float, parts, [kWarps][NT * 4][32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const uint64_t out0 = uint64_t(blockIdx.y) * 16, row0 = uint64_t(blockIdx.x) * (8 * NT);
    const uint32_t blocks = (w.depth + 31) / 32;
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    float total[NT][4] = {};
    for (uint32_t from = warp; from < blocks; from += kWarps * kAhead) {
        typename F::Raw raw[kAhead][2];
        float d[kAhead][2] = {}, m[kAhead][2] = {};
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const uint32_t block = from + i * kWarps;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint64_t row = out0 + g + 8 * half;
                if (block >= blocks) continue;
                raw[i][half] = F::load(w, row, block, t);
                if (F::kScaled && row < w.rows) d[i][half] = half_to_float(w.scale[row * blocks + block]);
                if (F::kMinimum && row < w.rows) m[i][half] = half_to_float(w.minimum[row * blocks + block]);
            }
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const uint32_t block = from + i * kWarps;
            if (block >= blocks) break;
            uint32_t low[4], high[4];
            F::dequantise(raw[i][0], low);
            F::dequantise(raw[i][1], high);
#pragma unroll
            for (int n = 0; n < NT; n++) {
                uint32_t planes[P][4] = {};
                const uint64_t row = row0 + 8 * n + g;
                if (row < rows) take<F>(planes, x + row * stride_x, block * 32, stride_x, t);
                if constexpr (!F::kScaled && P == 1) {
                    block_product(total[n], low, high, planes);
                } else {
                    // Of a block alone, and then added, which rounds (common/tile.cuh).
                    float sum[4] = {};
                    block_product(sum, low, high, planes);
#pragma unroll
                    for (int c = 0; c < 4; c++) total[n][c] += F::kScaled ? d[i][c / 2] * sum[c] : sum[c];
                    if constexpr (F::kMinimum) {
                        float of_x[4] = {};
                        block_product(of_x, ones, ones, planes);
#pragma unroll
                        for (int c = 0; c < 4; c++) total[n][c] += m[i][c / 2] * of_x[c];
                    }
                }
            }
        }
    }
    if constexpr (sizeof(T) == 2 && !F::kScaled) {
        const Weights b = {low_rank.b, nullptr, nullptr, w.rows, low_rank.rank, low_rank.stride_b};
        for (uint32_t block = warp; block < (low_rank.rank + 31) / 32; block += kWarps) {
            uint32_t low[4], high[4];
            F::dequantise(F::load(b, out0 + g, block, t), low);
            F::dequantise(F::load(b, out0 + g + 8, block, t), high);
#pragma unroll
            for (int n = 0; n < NT; n++) {
                uint32_t planes[P][4] = {};
                const uint64_t row = row0 + 8 * n + g;
                if (row < rows) take<F>(planes, low_rank.s + row * low_rank.stride_s, block * 32, low_rank.stride_s, t);
                block_product(total[n], low, high, planes);
            }
        }
    }
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int c = 0; c < 4; c++) parts[warp][4 * n + c][lane] = total[n][c];
    __syncthreads();
    // Neighbours write neighbours: the out index runs fastest.
    for (int at = threadIdx.x; at < NT * 8 * 16; at += kThreads) {
        const int out = at % 16, column = at / 16, n = column / 8;
        const int slot = 4 * n + 2 * (out / 8) + column % 2, from = 4 * (out % 8) + column % 8 / 2;
        float sum = parts[0][slot][from];
#pragma unroll
        for (int k = 1; k < kWarps; k++) sum += parts[k][slot][from];
        const uint64_t o = out0 + out, row = row0 + column;
        if (o >= w.rows || row >= rows) continue;
        if (bias) sum += bias[o];
        if (add) sum += to_float(y[row * stride_y + o]);
        y[row * stride_y + o] = from_float<U>(sum);
    }
}

}  // namespace

#define DECODE(NAME, F, T, NT)                                                                                    \
    extern "C" __global__ void __launch_bounds__(kThreads, 2)                                                     \
        NAME(const __grid_constant__ FewRowsArgs<T> a) {                                                          \
        decode<F, NT>(Weights{a.values, a.scale, a.minimum, a.out, a.depth, a.stride_w}, a.x, a.rows, a.stride_x, \
                      LowRank{}, a.bias, a.add, a.y, a.stride_y);                                                 \
    }                                                                                                             \
    RALLREC_KERNEL(NAME, kThreads);

#define DECODE_ALL(FORMAT, F)                     \
    DECODE(decode_##FORMAT##_f32_8, F, float, 1)  \
    DECODE(decode_##FORMAT##_f32_32, F, float, 4) \
    DECODE(decode_##FORMAT##_bf16_8, F, bf16, 1)  \
    DECODE(decode_##FORMAT##_bf16_32, F, bf16, 4)

DECODE_ALL(bf16, Bf16)
DECODE_ALL(q8_0, Q8)
DECODE_ALL(q4_0, Q4<false>)
DECODE_ALL(q4_1, Q4<true>)

#define DECODE_STEP(NAME, NT)                                                                                 \
    extern "C" __global__ void __launch_bounds__(kThreads, 2)                                                 \
        NAME(const __grid_constant__ StepArgs a) {                                                            \
        decode<Bf16, NT>(Weights{a.w, nullptr, nullptr, a.out, a.depth, a.stride_w}, a.x, a.rows, a.stride_x, \
                         LowRank{a.b, a.s, a.rank, a.stride_b, a.stride_s}, a.bias, a.add, a.y, a.stride_y);  \
    }                                                                                                         \
    RALLREC_KERNEL(NAME, kThreads)

DECODE_STEP(decode_step_bf16_8, 1);
DECODE_STEP(decode_step_bf16_32, 4);
