// Kernels with one bug each, and what each should have been. Lines marked BUG are what a report
// must name.
#include "../../common/async.cuh"
#include "../../common/hopper.cuh"
#include "../../common/mma.cuh"
#include "../../common/warp.cuh"

// Sum of a block's values; without the barrier the second half may read what is not yet written.
template <bool kBarrier> __device__ void sum_block(float* out, const float* in) {
    SHARED(float, parts, [4]);
    const float mine = warp_sum(in[threadIdx.x]);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    if (kBarrier) __syncthreads();
    if (threadIdx.x < 4) out[threadIdx.x] = parts[3 - threadIdx.x];  // BUG missing barrier
}
extern "C" __global__ void planted_sum_good(float* out, const float* in) { sum_block<true>(out, in); }
RALLREC_KERNEL(planted_sum_good, 128);
extern "C" __global__ void planted_sum_bad(float* out, const float* in) { sum_block<false>(out, in); }
RALLREC_KERNEL(planted_sum_bad, 128);

extern "C" __global__ void planted_divergent(float* out) {
    if (threadIdx.x < 64) {
        __syncthreads();  // BUG divergent barrier
    } else {
        __syncthreads();  // BUG divergent barrier
    }
    out[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_divergent, 128);

extern "C" __global__ void planted_unreached(float* out) {
    if (threadIdx.x == 77) return;
    __syncthreads();  // BUG not reached
    out[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_unreached, 128);

extern "C" __global__ void planted_half_warp(float* out) {
    float x = 1;
    if (threadIdx.x % 32 < 16) x += __shfl_xor_sync(kAllLanes, x, 1);  // BUG half warp
    out[threadIdx.x] = x;
}
RALLREC_KERNEL(planted_half_warp, 128);

extern "C" __global__ void planted_strange_lane(float* out) {
    float x = 1;
    if (threadIdx.x % 32 < 16) x += __shfl_sync(0xffffu, x, 20);  // BUG lane outside the mask
    out[threadIdx.x] = x;
}
RALLREC_KERNEL(planted_strange_lane, 128);

extern "C" __global__ void planted_shared_bounds(float* out) {
    SHARED(float, tile, [128]);
    tile[threadIdx.x + 1] = 1;  // BUG shared out of bounds
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}
RALLREC_KERNEL(planted_shared_bounds, 128);

extern "C" __global__ void planted_dynamic_bounds(float* out) {
    DYNAMIC_SHARED(bytes);
    out[threadIdx.x] = reinterpret_cast<float*>(bytes)[threadIdx.x * 2];  // BUG dynamic out of bounds
}
RALLREC_KERNEL(planted_dynamic_bounds, 128);

// Doubles n values in tiles of 128; the bad one forgets that the last tile is not full.
template <int kExtra> __device__ void double_values(float* x, uint32_t n) {
    const uint32_t i = blockIdx.x * 128 + threadIdx.x;
    if (i < n + kExtra) x[i] *= 2;  // BUG last tile
}
extern "C" __global__ void planted_tile_good(float* x, uint32_t n) { double_values<0>(x, n); }
RALLREC_KERNEL(planted_tile_good, 128);
extern "C" __global__ void planted_tile_bad(float* x, uint32_t n) { double_values<1>(x, n); }
RALLREC_KERNEL(planted_tile_bad, 128);

// A tile through cp.async; the bad ones do not wait for it.
template <bool kWait> __device__ void stage(float* out, const float* in) {
    SHARED(float, tile, [128]);
    const int at = threadIdx.x * 4;
    if (threadIdx.x < 32) {
        cp_async16(tile + at, in + at, 16);
        cp_async_commit();
        if (kWait) cp_async_wait(0);
    }
    __syncthreads();
    out[threadIdx.x] = tile[127 - threadIdx.x];  // BUG read before it landed
    if (!kWait) cp_async_wait(0);
}
extern "C" __global__ void planted_async_good(float* out, const float* in) { stage<true>(out, in); }
RALLREC_KERNEL(planted_async_good, 128);
extern "C" __global__ void planted_async_bad(float* out, const float* in) { stage<false>(out, in); }
RALLREC_KERNEL(planted_async_bad, 128);

extern "C" __global__ void planted_async_matrix(float* out, const float* in) {
    SHARED(float, tile, [128]);
    cp_async16(tile + threadIdx.x * 4, in + threadIdx.x * 4, 16);
    cp_async_commit();
    uint32_t a[4];
    ldmatrix_x4(a, tile + threadIdx.x * 4);  // BUG matrix read before it landed
    cp_async_wait(0);
    out[threadIdx.x] = __uint_as_float(a[0]);
}
RALLREC_KERNEL(planted_async_matrix, 32);

extern "C" __global__ void planted_async_left(float* out, const float* in) {
    SHARED(float, tile, [128]);
    cp_async16(tile + threadIdx.x * 4, in + threadIdx.x * 4, 16);  // BUG nobody waits
    cp_async_commit();
    out[threadIdx.x] = 0;
}
RALLREC_KERNEL(planted_async_left, 32);

// Shared memory is not zero, and not what the last block left.
extern "C" __global__ void planted_uninitialised(float* out) {
    SHARED(float, tile, [32]);
    out[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
    tile[threadIdx.x] = 1;
}
RALLREC_KERNEL(planted_uninitialised, 32);

// Its stack never ends.
__device__ float deep(volatile float* out, int n) {
    volatile float room[4096];
    room[n % 4096] = float(n);
    return n == 0 ? room[0] : deep(out, n - 1) + room[n % 4096];
}
extern "C" __global__ void planted_stack(float* out) { out[threadIdx.x] = deep(out, 1000); }
RALLREC_KERNEL(planted_stack, 32);

// Each block adds one to a number in memory; without an atomic two blocks may read the same number.
// Between reading and writing a thread waits, as it does on a GPU.
template <bool kAtomic> __device__ void count_blocks(uint32_t* total) {
    if (kAtomic) {
        if (threadIdx.x == 0) atomicAdd(total, 1u);
        return;
    }
    const uint32_t before = *total;
    __syncthreads();
    if (threadIdx.x == 0) *total = before + 1;
}
extern "C" __global__ void planted_count_good(uint32_t* total) { count_blocks<true>(total); }
RALLREC_KERNEL(planted_count_good, 32);
extern "C" __global__ void planted_count_bad(uint32_t* total) { count_blocks<false>(total); }
RALLREC_KERNEL(planted_count_bad, 32);

// The last block to end marks it. The bad one looks at how many have ended before it says that it
// has itself: what it saw may be old by then.
template <bool kStale> __device__ void mark_last(uint32_t* ended, uint32_t* marks) {
    uint32_t others = *ended;
    __syncthreads();
    if (threadIdx.x != 0) return;
    const uint32_t before = atomicAdd(ended, 1u);
    if (!kStale) others = before;
    if (others == gridDim.x - 1) atomicAdd(marks, 1u);
}
extern "C" __global__ void planted_last_good(uint32_t* words) { mark_last<false>(words, words + 1); }
RALLREC_KERNEL(planted_last_good, 32);
extern "C" __global__ void planted_last_bad(uint32_t* words) { mark_last<true>(words, words + 1); }
RALLREC_KERNEL(planted_last_bad, 32);

extern "C" __global__ void planted_shared_limit(float* out) {
    SHARED(float, tile, [4096]);  // BUG more shared memory than there is
    tile[threadIdx.x] = 1;
    out[threadIdx.x] = tile[threadIdx.x];
}
RALLREC_KERNEL(planted_shared_limit, 32);

// Two warpgroups take registers that the first should have given back.
template <bool kGives> __device__ void move_registers(float* out) {
    if (threadIdx.x < 128) {
        if (kGives) setmaxnreg_dec(40);
    } else {
        setmaxnreg_inc(208);  // BUG registers that nobody gives back
    }
    out[threadIdx.x] = 1;
}
extern "C" __global__ void planted_registers_good(float* out) { move_registers<true>(out); }
RALLREC_KERNEL(planted_registers_good, 384);
extern "C" __global__ void planted_registers_bad(float* out) { move_registers<false>(out); }
RALLREC_KERNEL(planted_registers_bad, 384);

// What can go wrong with a ring of tiles: one warpgroup multiplies `steps` tiles of 64 x 64 by
// tiles of 128 x 64 that a thread of another asks for, through a ring of two.
enum class Ring { good, no_fence, early_release, no_wait, half_group, early_read, too_many, too_few, other_parity };

struct alignas(1024) RingStage {
    char a[64 * 128], b[128 * 128];
};

template <Ring kBug> __device__ void multiply_ring(const char* maps, float* out, uint32_t steps) {
    SWIZZLED_SHARED(bytes);
    SHARED(uint64_t, full, [2]);
    SHARED(uint64_t, empty, [2]);
    RingStage* ring = reinterpret_cast<RingStage*>(bytes);
    if (threadIdx.x == 0) {
        for (int s = 0; s < 2; s++) {
            mbarrier_init(&full[s], 1);
            mbarrier_init(&empty[s], 4);
        }
        if (kBug != Ring::no_fence) mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
        if (threadIdx.x > 128) return;
        for (uint32_t step = 0; step < steps; step++) {
            const uint32_t s = step % 2;
            mbarrier_wait(&empty[s], (step / 2 + (kBug == Ring::other_parity ? 0 : 1)) % 2);  // BUG wrong parity
            const int wrong = kBug == Ring::too_many ? 128 : kBug == Ring::too_few ? -128 : 0;
            mbarrier_expect(&full[s], uint32_t(int(sizeof(RingStage)) + wrong));
            tma_load(ring[s].a, maps, &full[s], 64 * step, 0);        // BUG asked for too early
            tma_load(ring[s].b, maps + 128, &full[s], 64 * step, 0);  // BUG asked for too early
        }
        return;
    }
    WgmmaAccumulators acc;
    for (uint32_t step = 0; step < steps; step++) {
        const uint32_t s = step % 2;
        if (kBug != Ring::no_wait) mbarrier_wait(&full[s], step / 2 % 2);  // BUG wrong number of bytes
        wgmma_fence();
        for (int k = 0; k < 64; k += 16) {
            const uint64_t a = wgmma_operand(ring[s].a + 2 * k, 16, 1024), b = wgmma_operand(ring[s].b + 2 * k, 16, 1024);
            if (kBug == Ring::half_group && threadIdx.x >= 64) return;
            wgmma_64x128x16(acc, a, b, false);  // BUG not a whole group, or not landed
        }
        wgmma_commit();
        if (kBug == Ring::early_release && threadIdx.x % 32 == 0) mbarrier_arrive(&empty[s]);
        if (kBug == Ring::early_read && step + 1 == steps) break;
        wgmma_wait(0);
        if (kBug != Ring::early_release && threadIdx.x % 32 == 0) mbarrier_arrive(&empty[s]);
    }
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    for (int i = 0; i < 64; i++) out[(row + i / 2 % 2 * 8) * 128 + column + i / 4 * 8 + i % 2] = acc[i];  // BUG not waited for
    wgmma_finish(acc);
}
#define PLANTED_RING(BUG)                                                                    \
    extern "C" __global__ void planted_ring_##BUG(const char* maps, float* out, uint32_t n) { \
        multiply_ring<Ring::BUG>(maps, out, n);                                               \
    }                                                                                         \
    RALLREC_KERNEL(planted_ring_##BUG, 256)
PLANTED_RING(good);
PLANTED_RING(no_fence);
PLANTED_RING(early_release);
PLANTED_RING(no_wait);
PLANTED_RING(half_group);
PLANTED_RING(early_read);
PLANTED_RING(too_many);
PLANTED_RING(too_few);
PLANTED_RING(other_parity);
