// Y = X W^T + S B^T (+ bias) (+ Y) in bf16 for sm_90a alone: TMA brings the tiles, wgmma multiplies them out of shared memory. The
// portable form of the same product is lora.cu's lora_forward_bf16 (common/wide.cuh); this one is held to its oracle on a GPU. All rows
// have one adapter, or none (rank 0).
//
// NEVER RUN. It is compiled, and its machine code holds HGMMA (scripts/kernel-resources --check). `rallrec check wgmma --device cuda`
// launches it on a GPU of compute capability 9.0; a run does so with RALLREC_WGMMA=1 alone, until that check has passed.
//
//   block   128 x 128 of Y; 3 warpgroups: one thread of the first asks for tiles, the other two multiply 64 rows each
//   stage   X 128 x 64 and W 128 x 64 values, 16 KB each, swizzled 128 bytes wide as TMA writes and wgmma reads them;
//           four stages = 128 KB. The adapter is a longer depth: behind the last tiles of X and W come those of S and B
//
//   producer:   wait empty[s] -> expect 32 KB on full[s] -> TMA of X and W, or S and B      registers given to the consumers
//   consumer:   wait full[s]  -> 4 x wgmma m64n128k16 -> when done: arrive empty[s]         64 f32 accumulators a thread
//
// Accumulator 4 j + c of a thread is row 16 (warp % 4) + lane / 4 + 8 (c / 2), column 8 j + 2 (lane % 4) + c % 2 of the
// warpgroup's 64 x 128.
//
// Preconditions: the four descriptors describe row-major bf16 matrices of `depth` (X, W) and `rank` (S, B) columns, box 64 x 128,
// 128-byte swizzle, zero fill; TMA gives zeros outside, so no shape needs a tail. With rank 0 the last two are not read.
// FLOP: 2 M N (K + r). Bytes: 2 (M + N) (K + r) + M N of Y, twice that to accumulate.

#include "common/base.cuh"

namespace {

constexpr int kRows = 128, kColumns = 128, kDepth = 64, kStages = 4, kThreads = 384;
constexpr uint32_t kTileBytes = kRows * kDepth * 2;
static_assert(kRows == kColumns, "one tile size for both operands");

struct alignas(1024) Stage {
    uint8_t x[kTileBytes], w[kTileBytes];
};

__device__ __forceinline__ uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(uint64_t* barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over;\nbra again;\nover:\n}"
        ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

// Rows `row ..` and columns `k ..` of the matrix behind `map`.
__device__ __forceinline__ void tma_load(void* to, const void* map, uint64_t* barrier, uint32_t k, uint32_t row) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
        ::"r"(shared_address(to)), "l"(map), "r"(shared_address(barrier)), "r"(k), "r"(row)
        : "memory");
}

// A K-major operand, swizzled 128 bytes wide: eight rows of 128 bytes are a unit of 1024 bytes.
__device__ __forceinline__ uint64_t descriptor(const void* p) {
    return uint64_t((shared_address(p) & 0x3ffffu) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// acc += 64 x 16 of X times 16 x 128 of W^T.
__device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"
        "%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
          "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
          "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]),
          "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
          "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]),
          "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]),
          "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
          "+f"(d[63])
        : "l"(a), "l"(b));
}

// See the top. `maps` are four tensor descriptors of 128 bytes, aligned to 128: of X, W, S and B.
template <class U>
__device__ __forceinline__ void product(const uint8_t* maps, uint64_t rows, uint64_t columns, uint32_t depth, uint32_t rank,
                                        const float* bias, int accumulate, U* y, uint32_t stride) {
    extern __shared__ __align__(1024) uint8_t ring_bytes[];
    __shared__ uint64_t full[kStages], empty[kStages];
    Stage* ring = reinterpret_cast<Stage*>(ring_bytes);
    const uint32_t row0 = blockIdx.x * kRows, col0 = blockIdx.y * kColumns, own = (depth + kDepth - 1) / kDepth;
    const uint32_t steps = own + (rank + kDepth - 1) / kDepth;
    const int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < kStages; s++) {
            barrier_init(&full[s], 1);
            barrier_init(&empty[s], 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        // The descriptors were written by a copy from the CPU: this proxy must not use what it held before.
        for (int i = 0; i < 4; i++)
            asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(maps + 128 * i) : "memory");
    }
    __syncthreads();
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (uint32_t step = 0; step < steps; step++) {
                const int s = step % kStages;
                // The first round finds every stage empty.
                barrier_wait(&empty[s], (step / kStages + 1) % 2);
                barrier_expect(&full[s], 2 * kTileBytes);
                const uint8_t* pair = step < own ? maps : maps + 256;
                const uint32_t k = (step < own ? step : step - own) * kDepth;
                tma_load(ring[s].x, pair, &full[s], k, row0);
                tma_load(ring[s].w, pair + 128, &full[s], k, col0);
            }
        }
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 208;");
    float acc[64] = {};
    for (uint32_t step = 0; step < steps; step++) {
        const int s = step % kStages;
        barrier_wait(&full[s], step / kStages % 2);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kDepth; k += 16)
            wgmma(acc, descriptor(ring[s].x + (group - 1) * 64 * kDepth * 2 + 2 * k), descriptor(ring[s].w + 2 * k));
        wgmma_commit();
        wgmma_wait();
        if (threadIdx.x % 128 == 0) barrier_arrive(&empty[s]);
    }
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
#pragma unroll
    for (int j = 0; j < 16; j++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const uint64_t i = row0 + 64 * (group - 1) + 16 * warp + lane / 4 + 8 * (c / 2);
            const uint64_t column = col0 + 8 * j + 2 * (lane % 4) + c % 2;
            if (i >= rows || column >= columns) continue;
            float value = acc[4 * j + c];
            if (bias) value += bias[column];
            if (accumulate) value += to_float(y[i * stride + column]);
            y[i * stride + column] = from_float<U>(value);
        }
}

}  // namespace

#define LORA_FORWARD(NAME, U)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(kThreads, 1)                                                                   \
        NAME(const uint8_t* maps, uint64_t rows, uint64_t columns, uint32_t depth, uint32_t rank, const float* bias, int accumulate, \
             U* y, uint32_t stride) {                                                                                           \
        product<U>(maps, rows, columns, depth, rank, bias, accumulate, y, stride);                                              \
    }                                                                                                                           \
    RALLREC_KERNEL(NAME, kThreads)

// forward, Y in bf16
LORA_FORWARD(lora_forward_bf16_sm90a, bf16);
// forward, Y in f32
LORA_FORWARD(lora_forward_bf16_f32_sm90a, float);
