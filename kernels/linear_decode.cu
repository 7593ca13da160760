// Y = X W^T for a few rows of X (the decode step), W in bf16 or as 4- and 8-bit blocks that are
// dequantised in registers.
//
// What bounds it is reading W once. So W is the 16-row operand of the matrix instruction and up to
// 8 NT rows of X are its columns; no shared memory stands between the weights and the instruction:
//
//   block   16 MT rows of W, eight warps; warp w takes groups w, w + 8, ... of blocks of 32 values of K
//   lane    4 g + t: rows g and g + 8 of each sixteen; of a block's 32 values the eight from 8 t on.
//           A load is 16 bytes: one block of bf16, two of Q8_0, four of Q4
//
// Any order of K is as good as another if both operands use it: a lane feeds what it has, as it
// lies, and takes the same places of X. Quants are small integers, exact in bf16: the two
// instructions of a block sum q x exactly as bf16 would, then the block's scale multiplies the f32
// sum (and Q4_1's minimum the sum of x, which an instruction with a matrix of ones gives in the
// same layout). Warps are added in order.
//
// f32 rows of X are three bf16 planes. Every block of outputs needs them, so decode_split makes
// them once, in the order in which lanes take them. X comes from the caches again for each block
// of outputs: with 32 rows it is more bytes than W has, so a block then has 32 outputs, not 16.
//
// How blocks are stored, and how small integers become bf16: common/blocks.cuh.
//
// An adapter is a longer K here as well: the rows of S = scale X A^T against those of B, a few more
// blocks of the same loop. In a step of a bf16 model (decode_step_*) Y is bf16 too, rounded once.
//
// Grid: rows of X run fastest, so that blocks that share rows of W follow each other: memory is
// read once for any number of rows.
//
// Bytes: N K (2, 1.0625, 0.5625 or 0.625) + (2 or 6) M K + 4 M N. FLOP: 2 M N K. `decode_split`:
// 10 M K bytes.

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
constexpr int kBlockValues = 32;

// A row of W in bf16: a lane's load is its share of one block.
struct Bf16 {
    static constexpr bool kScaled = false, kMinimum = false;
    static constexpr int kBlocks = 1, kAhead = 4;
    using Factors = uint32_t[1];
    static __device__ __forceinline__ uint32_t groups(const Weights& w) { return (w.depth + kBlockValues - 1) / kBlockValues; }
    static __device__ __forceinline__ uint4 load(const Weights& w, uint64_t row, uint32_t group, int t) {
        const uint32_t column = group * kBlockValues + 8 * t;
        if (row >= w.rows || column >= w.stride) return make_uint4(0, 0, 0, 0);
        return *reinterpret_cast<const uint4*>(static_cast<const bf16*>(w.values) + row * w.stride + column);
    }
    static __device__ __forceinline__ void next(uint4&) {}
    static __device__ __forceinline__ void dequantise(const uint4& raw, uint32_t (&pairs)[4]) {
        pairs[0] = raw.x, pairs[1] = raw.y, pairs[2] = raw.z, pairs[3] = raw.w;
    }
};

// The planes of a row of X: for each block of K and plane the 16 bytes of lane 0, 1, 2, 3.
struct SplitRow {
    uint4 lanes[3][4];
};

// Rows of X of one kind, and a lane's share of a block of one of them.
template <int P> struct Operand;
template <> struct Operand<1> {
    const bf16* x;
    uint64_t rows;
    uint32_t depth, stride;
    __device__ __forceinline__ void take(uint32_t (&planes)[1][4], uint64_t row, uint32_t block, int t) const {
        const uint32_t column = block * kBlockValues + 8 * t;
        uint4 raw = make_uint4(0, 0, 0, 0);
        if (row < rows && column < stride) raw = *reinterpret_cast<const uint4*>(x + row * stride + column);
        planes[0][0] = raw.x, planes[0][1] = raw.y, planes[0][2] = raw.z, planes[0][3] = raw.w;
    }
};
template <> struct Operand<3> {
    const SplitRow* x;
    uint64_t rows;
    uint32_t depth, stride;
    __device__ __forceinline__ void take(uint32_t (&planes)[3][4], uint64_t row, uint32_t block, int t) const {
        const uint32_t blocks = (depth + kBlockValues - 1) / kBlockValues;
        const bool inside = row < rows && block < blocks;
#pragma unroll
        for (int p = 0; p < 3; p++) {
            uint4 raw = make_uint4(0, 0, 0, 0);
            if (inside) raw = x[row * blocks + block].lanes[p][t];
            planes[p][0] = raw.x, planes[p][1] = raw.y, planes[p][2] = raw.z, planes[p][3] = raw.w;
        }
    }
};

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

template <class F, int NT, int P, class U>
__device__ __forceinline__ void decode(const Weights& w, const Operand<P>& x, const LowRank& low_rank, const float* bias, int add,
                                       U* y, uint32_t stride_y) {
    constexpr int MT = NT == 1 ? 1 : 2, kAhead = F::kAhead / MT;
    SHARED(float, parts, [kWarps][MT * NT * 4][32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const uint64_t out0 = uint64_t(blockIdx.y) * (16 * MT), row0 = uint64_t(blockIdx.x) * (8 * NT);
    const uint32_t groups = F::groups(w);
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    float total[MT][NT][4] = {};
    for (uint32_t from = warp; from < groups; from += kWarps * kAhead) {
        uint4 raw[kAhead][MT][2];
        typename F::Factors d[kAhead][MT][2], m[kAhead][MT][2];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const uint32_t group = from + i * kWarps;
            if (group >= groups) break;
#pragma unroll
            for (int h = 0; h < 2 * MT; h++) {
                const uint64_t row = out0 + g + 8 * h;
                raw[i][h / 2][h % 2] = F::load(w, row, group, t);
                if constexpr (F::kScaled) F::factors(d[i][h / 2][h % 2], w.scale, w, row, group);
                if constexpr (F::kMinimum) F::factors(m[i][h / 2][h % 2], w.minimum, w, row, group);
            }
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            const uint32_t group = from + i * kWarps;
            if (group >= groups) break;
            // Unrolled, the compiler brings X of all blocks of a group first, and spills with many
            // rows.
#pragma unroll(NT > 1 ? 1 : F::kBlocks)
            for (int j = 0; j < F::kBlocks; j++) {
                uint32_t left[MT][2][4];
#pragma unroll
                for (int h = 0; h < 2 * MT; h++) F::dequantise(raw[i][h / 2][h % 2], left[h / 2][h % 2]);
#pragma unroll
                for (int n = 0; n < NT; n++) {
                    uint32_t planes[P][4];
                    x.take(planes, row0 + 8 * n + g, group * F::kBlocks + j, t);
                    [[maybe_unused]] float of_x[4] = {};
                    if constexpr (F::kMinimum) block_product(of_x, ones, ones, planes);
#pragma unroll
                    for (int o = 0; o < MT; o++) {
                        if constexpr (!F::kScaled && P == 1) {
                            block_product(total[o][n], left[o][0], left[o][1], planes);
                        } else {
                            // Of a block alone, and then added, which rounds (common/tile.cuh).
                            float sum[4] = {};
                            block_product(sum, left[o][0], left[o][1], planes);
#pragma unroll
                            for (int c = 0; c < 4; c++) {
                                if constexpr (F::kScaled) sum[c] *= F::factor(d[i][o][c / 2]);
                                total[o][n][c] += sum[c];
                                if constexpr (F::kMinimum) total[o][n][c] += F::factor(m[i][o][c / 2]) * of_x[c];
                            }
                        }
                    }
                }
#pragma unroll
                for (int h = 0; h < 2 * MT; h++) {
                    F::next(raw[i][h / 2][h % 2]);
                    if constexpr (F::kScaled) F::next(d[i][h / 2][h % 2]);
                    if constexpr (F::kMinimum) F::next(m[i][h / 2][h % 2]);
                }
            }
        }
    }
    if constexpr (P == 1 && !F::kScaled) {
        const Weights b = {low_rank.b, nullptr, nullptr, w.rows, low_rank.rank, low_rank.stride_b};
        const Operand<1> s = {low_rank.s, x.rows, low_rank.rank, low_rank.stride_s};
        for (uint32_t block = warp; block < F::groups(b); block += kWarps) {
#pragma unroll
            for (int o = 0; o < MT; o++) {
                uint32_t low[4], high[4];
                F::dequantise(F::load(b, out0 + 16 * o + g, block, t), low);
                F::dequantise(F::load(b, out0 + 16 * o + g + 8, block, t), high);
#pragma unroll
                for (int n = 0; n < NT; n++) {
                    uint32_t planes[1][4];
                    s.take(planes, row0 + 8 * n + g, block, t);
                    block_product(total[o][n], low, high, planes);
                }
            }
        }
    }
#pragma unroll
    for (int o = 0; o < MT; o++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int c = 0; c < 4; c++) parts[warp][4 * (o * NT + n) + c][lane] = total[o][n][c];
    __syncthreads();
    // Neighbours write neighbours: the out index runs fastest.
    for (int at = threadIdx.x; at < MT * NT * 8 * 16; at += kThreads) {
        const int out = at % (16 * MT), column = at / (16 * MT), n = column / 8;
        const int slot = 4 * (out / 16 * NT + n) + 2 * (out % 16 / 8) + column % 2, from = 4 * (out % 8) + column % 8 / 2;
        float sum = parts[0][slot][from];
#pragma unroll
        for (int k = 1; k < kWarps; k++) sum += parts[k][slot][from];
        const uint64_t o = out0 + out, row = row0 + column;
        if (o >= w.rows || row >= x.rows) continue;
        if (bias) sum += bias[o];
        if (add) sum += to_float(y[row * stride_y + o]);
        y[row * stride_y + o] = from_float<U>(sum);
    }
}

}  // namespace

// A thread splits eight values, a lane's share of a block.
extern "C" __global__ void __launch_bounds__(kThreads)
    decode_split(const float* x, uint64_t rows, uint32_t depth, uint32_t stride, SplitRow* to) {
    const uint32_t blocks = (depth + kBlockValues - 1) / kBlockValues;
    const uint64_t at = uint64_t(blockIdx.x) * kThreads + threadIdx.x, place = at / 4, row = place / blocks;
    if (row >= rows) return;
    const int t = at % 4;
    const uint32_t column = uint32_t(place % blocks) * kBlockValues + 8 * t;
    Vec<float> halves[2];
    halves[0].zero();
    halves[1].zero();
    if (column < stride) halves[0].load(x + row * stride + column);
    if (column + 4 < stride) halves[1].load(x + row * stride + column + 4);
    uint32_t planes[4][3];
#pragma unroll
    for (int i = 0; i < 4; i++) split_pair(halves[i / 2].get(i % 2 * 2), halves[i / 2].get(i % 2 * 2 + 1), planes[i]);
#pragma unroll
    for (int p = 0; p < 3; p++) to[place].lanes[p][t] = make_uint4(planes[0][p], planes[1][p], planes[2][p], planes[3][p]);
}
RALLREC_KERNEL(decode_split, kThreads);

// Blocks that share an SM: with 32 rows, factors and three planes (or minima) take more registers
// than two leave each other; on sm_100 either does.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool kEither = true;
#else
constexpr bool kEither = false;
#endif
template <class F, int P, int NT>
constexpr int kTogether = NT > 1 && ((F::kScaled && (P == 3 || F::kMinimum)) || (kEither && (F::kScaled || P == 3))) ? 1 : 2;

#define DECODE(NAME, F, T, P, NT)                                                                              \
    extern "C" __global__ void __launch_bounds__(kThreads, (kTogether<F, P, NT>))                              \
        NAME(const __grid_constant__ FewRowsArgs<T> a) {                                                       \
        decode<F, NT>(Weights{a.values, a.scale, a.minimum, a.out, a.depth, a.stride_w},                       \
                      Operand<P>{a.x, a.rows, a.depth, a.stride_x}, LowRank{}, a.bias, a.add, a.y, a.stride_y); \
    }                                                                                                          \
    RALLREC_KERNEL(NAME, kThreads);

#define DECODE_ALL(FORMAT, F)                           \
    DECODE(decode_##FORMAT##_f32_8, F, SplitRow, 3, 1)  \
    DECODE(decode_##FORMAT##_f32_32, F, SplitRow, 3, 4) \
    DECODE(decode_##FORMAT##_bf16_8, F, bf16, 1, 1)     \
    DECODE(decode_##FORMAT##_bf16_32, F, bf16, 1, 4)

DECODE_ALL(bf16, Bf16)
DECODE_ALL(q8_0, Q8)
DECODE_ALL(q4_0, Q4<false>)
DECODE_ALL(q4_1, Q4<true>)

#define DECODE_STEP(NAME, NT)                                                                                              \
    extern "C" __global__ void __launch_bounds__(kThreads, 2)                                                              \
        NAME(const __grid_constant__ StepArgs a) {                                                                         \
        decode<Bf16, NT>(Weights{a.w, nullptr, nullptr, a.out, a.depth, a.stride_w},                                       \
                         Operand<1>{a.x, a.rows, a.depth, a.stride_x}, LowRank{a.b, a.s, a.rank, a.stride_b, a.stride_s}, \
                         a.bias, a.add, a.y, a.stride_y);                                                                  \
    }                                                                                                                      \
    RALLREC_KERNEL(NAME, kThreads)

DECODE_STEP(decode_step_bf16_8, 1);
DECODE_STEP(decode_step_bf16_32, 4);
