// Bayesian personalised ranking: negatives, loss, gradient. No sum is atomic: the same bits every
// run.
//
//   x = e_u . (e_n - e_p)     loss = mean softplus(x) + lambda/(2B) sum |e0|^2     slope = sigmoid(x) / B
//   de_u += slope (e_n - e_p)   de_p -= slope e_u   de_n += slope e_u
//
//   bpr_negatives  a thread a triple: the CPU's Philox stream, drawn again until the item is not among the user's
//   bpr_hardest    a warp a triple: so many of these draws one after the other, the row of each read by the whole warp;
//                  the one with the highest inner product with the user's row stays, the first of equal ones
//   bpr_active     a thread a triple: sets the bits of its rows, for the propagation that makes the rows and the one back
//   bpr_terms      a warp a triple: 16 bytes a lane of the three rows, slope and loss term
//   bpr_keys       (row, entry) of the 3 B entries as 64-bit keys, entry = 3 triple + role; sorted by sort_tile and
//   sort_step      sort_step, so that what a row gets stands together and in batch order
//   bpr_gradient   a warp an entry; it goes on only where a row begins, and then sums that row's entries in order:
//                  a lane finds what an entry adds, 32 at a time, and the rows of four are fetched together, so that
//                  a row that stands in hundreds of triples does not wait for each
//
//   keys    | r2 e0 | r2 e7 | r5 e1 | r9 e2 | r9 e3 | r9 e8 | ...     warps 0, 2, 3 work; warps 1, 4, 5 end
//
// Bytes: 6 stride s a triple gathered twice; 24 a key and sorting pass. FLOP: 14 stride a triple.

#include "common/philox.cuh"
#include "common/sort.cuh"
#include "common/warp.cuh"

#define NEGATIVES_ARGS(F) F(uint32_t, key0) F(uint32_t, key1) F(uint32_t, epoch) F(uint32_t, first)     \
    F(uint32_t, count) F(const uint32_t*, users) F(const uint64_t*, starts) F(const uint32_t*, indices) \
    F(uint32_t, first_item) F(uint32_t, items) F(uint32_t*, negatives)
ARGUMENTS(NegativesArgs, NEGATIVES_ARGS);

#define HARDEST_ARGS(F) F(uint32_t, key0) F(uint32_t, key1) F(uint32_t, epoch) F(uint32_t, first)       \
    F(uint32_t, count) F(const uint32_t*, users) F(const uint64_t*, starts) F(const uint32_t*, indices) \
    F(uint32_t, first_item) F(uint32_t, items) F(uint32_t, candidates) F(const T*, e) F(uint32_t, stride) \
    F(uint32_t*, negatives)
ARGUMENTS_OF(HardestArgs, HARDEST_ARGS);

#define TERMS_ARGS(F) F(const T*, e) F(const float*, e0) F(uint32_t, stride) F(const uint32_t*, users) \
    F(const uint32_t*, positives) F(const uint32_t*, negatives) F(uint32_t, count) F(float, lambda)    \
    F(float*, slopes) F(double*, losses)
ARGUMENTS_OF(TermsArgs, TERMS_ARGS);

#define RANK_GRADIENT_ARGS(F) F(const uint64_t*, keys) F(uint32_t, entries) F(const T*, e) F(uint32_t, stride)    \
    F(const uint32_t*, users) F(const uint32_t*, positives) F(const uint32_t*, negatives) F(const float*, slopes) \
    F(float, penalty) F(float*, by_e) F(float*, weights)
ARGUMENTS_OF(RankGradientArgs, RANK_GRADIENT_ARGS);

namespace {

constexpr int kThreads = 128;
constexpr uint32_t kTile = 2048;  // keys that a block sorts in shared memory
constexpr int kGathers = 4;       // entries of a row whose rows are fetched at once
constexpr uint32_t kNobody = 0xffffffffu;

// Whether `node` is among the ascending `list`.
__device__ __forceinline__ bool contains(const uint32_t* __restrict__ list, uint64_t count, uint32_t node) {
    uint64_t low = 0, high = count;
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (list[middle] < node)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && list[low] == node;
}

// Every lane draws the same nodes, so that none has to be handed around.
template <class T>
__device__ __forceinline__ void hardest(const HardestArgs<T>& a) {
    constexpr int V = Vec<T>::size;
    const uint32_t i = (blockIdx.x * kThreads + threadIdx.x) / 32;
    if (i >= a.count) return;
    const int lane = threadIdx.x % 32;
    const uint32_t user = a.users[i];
    const uint64_t begin = a.starts[user], taken = a.starts[user + 1] - begin;
    Stream draws(make_uint2(a.key0, a.key1), a.epoch, a.first + i);
    uint32_t best = 0;
    float highest = 0;
    for (uint32_t candidate = 0; candidate < a.candidates; candidate++) {
        uint32_t node;
        do node = a.first_item + draws.below(a.items);
        while (contains(a.indices + begin, taken, node));
        float score = 0;
        for (uint32_t c = lane * V; c < a.stride; c += 32 * V) {
            Vec<T> eu, en;
            eu.load(a.e + uint64_t(user) * a.stride + c);
            en.load(a.e + uint64_t(node) * a.stride + c);
#pragma unroll
            for (int v = 0; v < V; v++) score += eu.get(v) * en.get(v);
        }
        score = warp_sum(score);
        if (candidate == 0 || score > highest) {
            highest = score;
            best = node;
        }
    }
    if (lane == 0) a.negatives[i] = best;
}

template <class T>
__device__ __forceinline__ void terms(const T* __restrict__ e, const float* __restrict__ e0, uint32_t stride,
                                      const uint32_t* __restrict__ users, const uint32_t* __restrict__ positives,
                                      const uint32_t* __restrict__ negatives, uint32_t count, float lambda,
                                      float* __restrict__ slopes, double* __restrict__ losses) {
    constexpr int V = Vec<T>::size;
    const uint64_t at = (uint64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
    if (at >= count) return;
    const int lane = threadIdx.x % 32;
    const uint64_t u = uint64_t(users[at]) * stride, p = uint64_t(positives[at]) * stride, n = uint64_t(negatives[at]) * stride;
    float plus = 0, minus = 0, norms = 0;
    for (uint32_t c = lane * V; c < stride; c += 32 * V) {
        Vec<T> eu, ep, en;
        eu.load(e + u + c);
        ep.load(e + p + c);
        en.load(e + n + c);
#pragma unroll
        for (int v = 0; v < V; v++) {
            plus += eu.get(v) * ep.get(v);
            minus += eu.get(v) * en.get(v);
        }
    }
    for (uint32_t c = lane * 4; c < stride; c += 32 * 4) {
        Vec<float> a, b, d;
        a.load(e0 + u + c);
        b.load(e0 + p + c);
        d.load(e0 + n + c);
#pragma unroll
        for (int v = 0; v < 4; v++) norms += a.get(v) * a.get(v) + b.get(v) * b.get(v) + d.get(v) * d.get(v);
    }
    const double x = double(warp_sum(minus)) - double(warp_sum(plus));
    norms = warp_sum(norms);
    if (lane) return;
    const double away = exp(-fabs(x)), sigmoid = (x >= 0 ? 1.0 : away) / (1.0 + away);
    slopes[at] = float(sigmoid / double(count));
    losses[at] = (x > 0 ? x : 0.0) + log1p(away) + 0.5 * double(lambda) * double(norms);
}

template <class T>
__device__ __forceinline__ void gradient(const uint64_t* __restrict__ keys, uint32_t entries, const T* __restrict__ e,
                                         uint32_t stride, const uint32_t* __restrict__ users,
                                         const uint32_t* __restrict__ positives, const uint32_t* __restrict__ negatives,
                                         const float* __restrict__ slopes, float penalty, float* __restrict__ by_e,
                                         float* __restrict__ weights) {
    constexpr int V = Vec<T>::size;
    const uint64_t first = (uint64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
    if (first >= entries) return;
    const uint32_t row = uint32_t(keys[first] >> 32);
    if (first > 0 && uint32_t(keys[first - 1] >> 32) == row) return;
    const uint32_t lane = threadIdx.x % 32;
    uint64_t end = first;
    for (uint32_t here = 32; here == 32; end += here) {
        const uint64_t at = end + lane;
        here = __popc(__ballot_sync(kAllLanes, at < entries && uint32_t(keys[at] >> 32) == row));
    }
    for (uint32_t block = 0; block < stride; block += 32 * V) {
        const uint32_t c = block + lane * V;
        float sum[V] = {};
        for (uint64_t from = first; from < end; from += 32) {
            const uint32_t here = uint32_t(min(end - from, uint64_t(32)));
            // A lane an entry: what it adds is slope (e[plus] - e[minus]).
            uint32_t plus = kNobody, minus = kNobody;
            float slope = 0;
            if (lane < here) {
                const uint32_t entry = uint32_t(keys[from + lane]), triple = entry / 3, role = entry % 3;
                slope = role == 1 ? -slopes[triple] : slopes[triple];
                plus = role ? users[triple] : negatives[triple];
                if (role == 0) minus = positives[triple];
            }
            for (uint32_t i = 0; i < here; i += kGathers) {
                Vec<T> a[kGathers], b[kGathers];
                float s[kGathers];
#pragma unroll
                for (int k = 0; k < kGathers; k++) {
                    const uint32_t at = (i + k) & 31;
                    const uint32_t p = __shfl_sync(kAllLanes, plus, at), m = __shfl_sync(kAllLanes, minus, at);
                    s[k] = __shfl_sync(kAllLanes, slope, at);
                    a[k].zero();
                    b[k].zero();
                    if (p != kNobody && c < stride) a[k].load(e + uint64_t(p) * stride + c);
                    if (m != kNobody && c < stride) b[k].load(e + uint64_t(m) * stride + c);
                }
#pragma unroll
                for (int k = 0; k < kGathers; k++)
#pragma unroll
                    for (int v = 0; v < V; v++) sum[v] += s[k] * (a[k].get(v) - b[k].get(v));
            }
        }
        if (c >= stride) continue;
        float* to = by_e + uint64_t(row) * stride + c;
#pragma unroll
        for (int v = 0; v < V; v += 4) {
            const float part[4] = {sum[v], sum[v + 1], sum[v + 2], sum[v + 3]};
            Vec<float>::store(to + v, part);
        }
    }
    if (lane == 0) weights[row] = float(end - first) * penalty;
}

}  // namespace

RALLREC_CONSTANT(bpr_tile, kTile);

extern "C" __global__ void __launch_bounds__(kThreads)
    bpr_negatives(const __grid_constant__ NegativesArgs a) {
    const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= a.count) return;
    const uint64_t begin = a.starts[a.users[i]], taken = a.starts[a.users[i] + 1] - begin;
    Stream draws(make_uint2(a.key0, a.key1), a.epoch, a.first + i);
    uint32_t node;
    do node = a.first_item + draws.below(a.items);
    while (contains(a.indices + begin, taken, node));
    a.negatives[i] = node;
}
RALLREC_KERNEL(bpr_negatives, kThreads);

// The bits of the rows that a batch reads, in words that were cleared before.
extern "C" __global__ void __launch_bounds__(kThreads)
    bpr_active(const uint32_t* users, const uint32_t* positives, const uint32_t* negatives, uint32_t count, uint32_t* bits) {
    const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= count) return;
    const uint32_t* lists[3] = {users, positives, negatives};
#pragma unroll
    for (int role = 0; role < 3; role++) {
        const uint32_t row = lists[role][i];
        atomicOr(bits + row / 32, 1u << row % 32);
    }
}
RALLREC_KERNEL(bpr_active, kThreads);

// `size` keys, a power of two; those beyond the 3 count entries come last.
extern "C" __global__ void __launch_bounds__(kThreads)
    bpr_keys(const uint32_t* users, const uint32_t* positives, const uint32_t* negatives, uint32_t count, uint32_t size,
             uint64_t* keys) {
    const uint32_t entry = blockIdx.x * kThreads + threadIdx.x;
    if (entry >= size) return;
    const uint32_t triple = entry / 3, role = entry % 3;
    if (triple >= count) {
        keys[entry] = ~uint64_t(0);
        return;
    }
    const uint32_t row = role == 0 ? users[triple] : role == 1 ? positives[triple] : negatives[triple];
    keys[entry] = uint64_t(row) << 32 | entry;
}
RALLREC_KERNEL(bpr_keys, kThreads);

// Steps of a bitonic sort of `size` keys (a power of two) that stay within tiles of 2048: all for k
// up to 2048 if `k` is 0, else those of `k` with distance below 2048.
extern "C" __global__ void __launch_bounds__(512) sort_tile(uint64_t* keys, uint32_t size, uint32_t k) {
    SHARED(uint64_t, tile, [kTile]);
    const uint32_t base = blockIdx.x * kTile, here = min(size, kTile);
    for (uint32_t i = threadIdx.x; i < here; i += 512) tile[i] = keys[base + i];
    __syncthreads();
    const uint32_t from = k ? k : 2, to = k ? k : here;
    for (uint32_t now = from; now <= to; now *= 2)
        for (uint32_t j = min(now, here) / 2; j; j /= 2) {
            for (uint32_t pair = threadIdx.x; pair < here / 2; pair += 512) {
                const uint32_t low = 2 * pair - (pair & (j - 1)), high = low + j;
                const uint64_t a = tile[low], b = tile[high];
                if ((a > b) == (((base + low) & now) == 0)) {
                    tile[low] = b;
                    tile[high] = a;
                }
            }
            __syncthreads();
        }
    for (uint32_t i = threadIdx.x; i < here; i += 512) keys[base + i] = tile[i];
}
RALLREC_KERNEL(sort_tile, 512);

// One step of it with distance `j` of 2048 or more.
extern "C" __global__ void __launch_bounds__(kThreads) sort_step(uint64_t* keys, uint32_t size, uint32_t k, uint32_t j) {
    const uint32_t pair = blockIdx.x * kThreads + threadIdx.x;
    if (pair < size / 2) sort_exchange<false>(keys, pair, k, j);
}
RALLREC_KERNEL(sort_step, kThreads);

#define BPR(SUFFIX, T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(kThreads, 6)                                                    \
        bpr_hardest_##SUFFIX(const __grid_constant__ HardestArgs<T> a) {                                         \
        hardest<T>(a);                                                                                           \
    }                                                                                                            \
    RALLREC_KERNEL(bpr_hardest_##SUFFIX, kThreads);                                                              \
    extern "C" __global__ void __launch_bounds__(kThreads, 6)                                                    \
        bpr_terms_##SUFFIX(const __grid_constant__ TermsArgs<T> a) {                                             \
        terms<T>(a.e, a.e0, a.stride, a.users, a.positives, a.negatives, a.count, a.lambda, a.slopes, a.losses); \
    }                                                                                                            \
    RALLREC_KERNEL(bpr_terms_##SUFFIX, kThreads);                                                                \
    extern "C" __global__ void __launch_bounds__(kThreads, 6)                                                    \
        bpr_gradient_##SUFFIX(const __grid_constant__ RankGradientArgs<T> a) {                                   \
        gradient<T>(a.keys, a.entries, a.e, a.stride, a.users, a.positives, a.negatives, a.slopes, a.penalty,    \
                    a.by_e, a.weights);                                                                          \
    }                                                                                                            \
    RALLREC_KERNEL(bpr_gradient_##SUFFIX, kThreads);

BPR(f32, float)
BPR(bf16, bf16)
