// Products of a layer with its adapter in bf16 for sm_90a alone: TMA brings the tiles, wgmma
// multiplies them out of shared memory. The portable form of the same products is lora.cu's
// lora_forward_bf16 and lora_backward_bf16 (common/wide.cuh). All rows have one adapter, or none
// (rank 0).
//
//   forward    Y (M, N)  = [ X | S ] [ W | B ]^T  (+ bias) (+ Y)      W (N, K), B (N, r): both operands are K-major
//   backward   dX (M, K) = [ dY | dS ] [ W ; A ]  (+ dX)              W (N, K), A (r, K): the second is MN-major
//
// NOT RUN ON A GPU YET. The host build runs it on twins of the instructions, made after the PTX
// manual (host/runtime/hopper.cpp), and holds it to the f64 oracle: this shows the descriptors,
// swizzles, phases and releases right as we read the manual, not that we read it right. Its machine
// code holds HGMMA (scripts/kernel-resources --check). `rallrec check wgmma --device cuda` launches
// it on a GPU of compute capability 9.0; a run does so with RALLREC_WGMMA=1 alone, until that check
// has passed.
//
//   block   128 x 128 of the result; 3 warpgroups: one thread of the first asks for tiles, the other two multiply 64 rows each
//   stage   16 KB of each operand, swizzled 128 bytes wide as TMA writes and wgmma reads them; four stages = 128 KB
//
//             left      128 rows x 64 of depth                               one box of 128 lines
//             forward   128 columns x 64 of depth                            one box of 128 lines
//             backward  64 of depth x columns 0 .. 63 | columns 64 .. 127    two boxes of 64 lines, 8 KB apart
//
//           The adapter is a longer depth: behind the last tiles of X and W come those of S and B.
//
//   producer:   wait empty[s] -> expect 32 KB on full[s] -> TMA of both operands                registers given to the consumers
//   consumer:   wait full[s]  -> 4 x wgmma m64n128k16 -> when the step before is done: arrive on its empty       64 f32 a thread
//
// A step's products are under way while the next one's are issued, so the tensor cores do not wait
// for a barrier. Every warp releases a stage by itself: what it waits for are its own 16 rows, and
// the others' may be behind.
//
// Accumulator 4 j + c of a thread is row 16 (warp % 4) + lane / 4 + 8 (c / 2), column 8 j + 2 (lane
// % 4) + c % 2 of the warpgroup's 64 x 128.
//
// Preconditions: the descriptors (left, right, and the adapter's left and right, by value) describe
// row-major bf16 matrices with boxes of 64 x 128 (64 x 64 for the right ones of the backward),
// 128-byte swizzle, zero fill; TMA gives zeros outside, so no shape needs a tail. Those of depth 0
// are not read. FLOP: 2 M N (K + r). Bytes: 2 (M + N) (K + r) + M N of the result, twice that to
// accumulate.

#include "common/hopper.cuh"

// Beside four descriptors.
#define HOPPER_ARGS(F) F(uint64_t, rows) F(uint64_t, columns) F(uint32_t, depth) F(uint32_t, rank) F(const float*, bias) \
    F(int, accumulate) F(void*, y) F(uint32_t, stride)
ARGUMENTS(HopperArgs, HOPPER_ARGS);

namespace {

constexpr int kRows = 128, kColumns = 128, kDepth = 64, kStages = 4, kThreads = 384;
constexpr uint32_t kTileBytes = kRows * kDepth * 2;
constexpr int kProducerRegisters = 40, kConsumerRegisters = 208;
static_assert(kRows == kColumns, "one tile size for both operands");
static_assert(128 * (kProducerRegisters + 2 * kConsumerRegisters) <= 65536, "more registers than there are");

struct alignas(1024) Stage {
    uint8_t left[kTileBytes], right[kTileBytes];
};

template <class U> struct alignas(2 * sizeof(U)) Pair {
    U low, high;
};

// Descriptors of a product's two matrices.
struct Operands {
    const TensorMap *left, *right;
};

// See the top; `kTurned` is the backward. `left` and `right` of a step are those of the layer, then
// those of the adapter.
template <bool kTurned>
__device__ __forceinline__ void produce(Stage* ring, uint64_t* full, uint64_t* empty, Operands layer, Operands adapter,
                                        uint32_t row0, uint32_t col0, uint32_t own, uint32_t steps) {
    for (uint32_t step = 0; step < steps; step++) {
        const uint32_t s = step % kStages;
        // The first round finds every stage empty.
        mbarrier_wait(&empty[s], (step / kStages + 1) % 2);
        mbarrier_expect(&full[s], 2 * kTileBytes);
        const TensorMap *left = step < own ? layer.left : adapter.left, *right = step < own ? layer.right : adapter.right;
        const uint32_t k = (step < own ? step : step - own) * kDepth;
        tma_load(ring[s].left, left, &full[s], k, row0);
        if constexpr (kTurned) {
            tma_load(ring[s].right, right, &full[s], col0, k);
            tma_load(ring[s].right + kTileBytes / 2, right, &full[s], col0 + kColumns / 2, k);
        } else {
            tma_load(ring[s].right, right, &full[s], k, col0);
        }
    }
}

template <bool kTurned>
__device__ __forceinline__ void consume(WgmmaAccumulators& acc, const Stage* ring, uint64_t* full, uint64_t* empty, int half,
                                        uint32_t steps) {
    for (uint32_t step = 0; step < steps; step++) {
        const uint32_t s = step % kStages;
        mbarrier_wait(&full[s], step / kStages % 2);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kDepth; k += 16) {
            // 16 of K: 32 bytes of a line, or 16 lines of 128 bytes.
            const uint8_t* left = ring[s].left + half * (kTileBytes / 2) + 2 * k;
            const uint8_t* right = ring[s].right + (kTurned ? 128 * k : 2 * k);
            wgmma_64x128x16(acc, wgmma_operand(left, 16, 1024), wgmma_operand(right, kTurned ? kTileBytes / 2 : 16, 1024), kTurned);
        }
        wgmma_commit();
        wgmma_wait(1);
        if (step > 0 && threadIdx.x % 32 == 0) mbarrier_arrive(&empty[(step - 1) % kStages]);
    }
    wgmma_finish(acc);
}

template <bool kTurned, class U>
__device__ __forceinline__ void product(Operands layer, Operands adapter, uint64_t rows, uint64_t columns,
                                        uint32_t depth, uint32_t rank, const float* bias, int accumulate, U* y, uint32_t stride) {
    SWIZZLED_SHARED(bytes);
    SHARED(uint64_t, full, [kStages]);
    SHARED(uint64_t, empty, [kStages]);
    Stage* ring = reinterpret_cast<Stage*>(bytes);
    const uint32_t row0 = blockIdx.x * kRows, col0 = blockIdx.y * kColumns, own = (depth + kDepth - 1) / kDepth;
    const uint32_t steps = own + (rank + kDepth - 1) / kDepth;
    const int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < kStages; s++) {
            mbarrier_init(&full[s], 1);
            mbarrier_init(&empty[s], 8);  // the warps that multiply
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    if (group == 0) {
        setmaxnreg_dec(kProducerRegisters);
        if (threadIdx.x == 0) produce<kTurned>(ring, full, empty, layer, adapter, row0, col0, own, steps);
        return;
    }
    setmaxnreg_inc(kConsumerRegisters);
    WgmmaAccumulators acc;
    consume<kTurned>(acc, ring, full, empty, group - 1, steps);
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
#pragma unroll
    for (int j = 0; j < 16; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            // Two neighbours at a time; the address is even, and so is the stride.
            const uint64_t i = row0 + 64 * (group - 1) + 16 * warp + lane / 4 + 8 * h;
            const uint64_t column = col0 + 8 * j + 2 * (lane % 4);
            if (i >= rows || column >= columns) continue;
            Pair<U>* to = reinterpret_cast<Pair<U>*>(y + i * stride + column);
            const bool both = column + 1 < columns;
            float low = acc[4 * j + 2 * h], high = acc[4 * j + 2 * h + 1];
            if (bias) low += bias[column], high += both ? bias[column + 1] : 0.0f;
            if (accumulate) {
                const Pair<U> old = *to;
                low += to_float(old.low), high += to_float(old.high);
            }
            // What stands behind a row's end stays 0.
            *to = {from_float<U>(low), from_float<U>(both ? high : 0.0f)};
        }
}

}  // namespace

RALLREC_CONSTANT(wgmma_rows, kRows);
RALLREC_CONSTANT(wgmma_columns, kColumns);
RALLREC_CONSTANT(wgmma_shared, kStages * 2 * kTileBytes);

#define LORA_PRODUCT(NAME, TURNED, U)                                                                            \
    extern "C" __global__ void __launch_bounds__(kThreads, 1)                                                    \
        NAME(const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right,                    \
             const __grid_constant__ TensorMap low_left, const __grid_constant__ TensorMap low_right,            \
             const __grid_constant__ HopperArgs a) {                                                             \
        product<TURNED, U>(Operands{&left, &right}, Operands{&low_left, &low_right}, a.rows, a.columns, a.depth, \
                           a.rank, a.bias, a.accumulate, static_cast<U*>(a.y), a.stride);                        \
    }                                                                                                            \
    RALLREC_KERNEL(NAME, kThreads)

// forward, Y in bf16
LORA_PRODUCT(lora_forward_bf16_sm90a, false, bf16);
// forward, Y in f32
LORA_PRODUCT(lora_forward_bf16_f32_sm90a, false, float);
// backward, dX in bf16
LORA_PRODUCT(lora_backward_bf16_sm90a, true, bf16);
// backward, dX in f32
LORA_PRODUCT(lora_backward_bf16_f32_sm90a, true, float);
