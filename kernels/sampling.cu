// The next token of each row of logits: temperature, top-k, top-p, one uniform number by inverse
// transform in the order of the vocabulary (the definition of src/ops/sampling). One block a row.
//
// Sums are integers. A weight e^((x - max) / temperature) is in (0, 1]; times 2^40 it is a whole
// number, and up to 2^20 of them add up below 2^61 without rounding. So histograms may be filled by
// integer atomics and sums split over threads in any way: the result is the same every run and does
// not depend on the block's shape. What a weight below 2^-40 of the largest loses is below what f32
// keeps of the total.
//
// Cuts are a threshold (key, m): kept is every logit above `key`, and the first m of those equal to
// it, by id. The key is found by descending its 32 bits (a float as an integer of the same order)
// three at a time: what all keys that share the digits so far and have a next digit of at least d
// count (top-k) or weigh (top-p), for each d, in registers; the largest d whose sum meets the goal
// is the next digit. A histogram in shared memory would be atomic additions of 64 bits, which are
// loops that spin, on two or three words that all threads want.
//
//   walk: chunks of 1024 ids | sum of those above, number of ties | ...   chunk that crosses u x total, then 32 ids at a time
//
// Bytes: 4 V a pass, from L2 after the first: 3 passes, 11 more for each cut. FLOP: about 10 V a
// pass.

#include "common/philox.cuh"
#include "common/sort.cuh"
#include "common/warp.cuh"

struct SamplingDraw {
    uint32_t row, sample;  // coordinates of the stream
    uint64_t step;
};

#define SAMPLING_ARGS(F) F(const float*, logits) F(uint32_t, vocab) F(uint64_t, stride) F(uint32_t, key_x)     \
    F(uint32_t, key_y) F(const SamplingDraw*, draws) F(float, temperature) F(uint32_t, top_k) F(double, top_p) \
    F(uint32_t*, tokens)
ARGUMENTS(SamplingArgs, SAMPLING_ARGS);

namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBits = 3, kDigits = 1 << kBits, kTop = 31 / kBits * kBits;
constexpr uint32_t kAhead = 4;  // logits that a thread has on the way
constexpr uint32_t kChunk = 1024;
constexpr uint32_t kMostChunks = 1024;
constexpr uint32_t kNan = ~0u, kInfinite = ~0u - 1, kNothing = ~0u - 2;

// The order of f32::total_cmp: zeros of the two signs differ.
__device__ __forceinline__ uint32_t total_order(float x) {
    const uint32_t u = __float_as_uint(x);
    return u >> 31 ? ~u : u | 0x80000000u;
}
__device__ __forceinline__ float of_order(uint32_t u) { return __uint_as_float(u >> 31 ? u & 0x7fffffffu : ~u); }

struct Weigh {
    float top, inverse;
    __device__ __forceinline__ uint64_t operator()(float x) const {
        return uint64_t(expf((x - top) * inverse) * 1099511627776.0f);  // 2^40
    }
};

struct Shared {
    uint64_t parts[kWarps][kDigits];
    uint64_t at_least[kDigits];
    uint64_t above[kMostChunks];
    uint32_t ties[kMostChunks];
    uint64_t sums[kWarps];
    uint64_t goal;
    uint32_t prefix, rank;
};

__device__ __forceinline__ uint64_t warp_total(uint64_t x) {
    for (int apart = 16; apart; apart /= 2) x += __shfl_xor_sync(kAllLanes, x, apart);
    return x;
}

__device__ __forceinline__ uint64_t block_total(Shared& shared, uint64_t x) {
    x = warp_total(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int w = 0; w < kWarps; w++) x += shared.sums[w];
    return x;
}

// Eight sums over the lanes of a warp, in 9 exchanges instead of 40: at each of the first three
// steps a lane hands half of its sums to its partner and keeps the other half, then two steps add
// up what is left. Returns the total of sum number `lane / 4`.
template <typename T>
__device__ __forceinline__ T warp_totals(T (&sums)[kDigits]) {
    static_assert(kDigits == 8, "three steps halve eight sums to one");
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int half = kDigits / 2, apart = 16; half; half /= 2, apart /= 2) {
        const bool upper = lane & apart;
#pragma unroll
        for (int d = 0; d < half; d++) {
            const T kept = upper ? sums[d + half] : sums[d], given = upper ? sums[d] : sums[d + half];
            sums[d] = kept + __shfl_xor_sync(kAllLanes, given, apart);
        }
    }
    sums[0] += __shfl_xor_sync(kAllLanes, sums[0], 2);
    return sums[0] + __shfl_xor_sync(kAllLanes, sums[0], 1);
}

// Kept: keys above `key`, and the first `ties` equal to it.
struct Threshold {
    uint32_t key, ties;
};

template <bool kByWeight> struct SumOf { using type = uint32_t; };
template <> struct SumOf<true> { using type = uint64_t; };

// Descends to the key at which the count, or the weight, of all keys from the largest down to it
// reaches `goal`. Only keys from `least` on are looked at. Returns the key and what the keys above
// it have.
template <bool kByWeight>
__device__ __forceinline__ uint32_t descend(Shared& shared, const float* logits, uint32_t vocab, const Weigh& weigh,
                                            uint32_t least, uint64_t goal, uint64_t& before) {
    using Sum = typename SumOf<kByWeight>::type;
    uint32_t prefix = 0;
    before = 0;
    for (int shift = kTop; shift >= 0; shift -= kBits) {
        Sum at_least[kDigits] = {};
        for (uint32_t from = threadIdx.x; from < vocab; from += kThreads * kAhead) {
            float x[kAhead];
#pragma unroll
            for (uint32_t i = 0; i < kAhead; i++) x[i] = from + i * kThreads < vocab ? logits[from + i * kThreads] : 0.0f;
#pragma unroll
            for (uint32_t i = 0; i < kAhead; i++) {
                const uint32_t key = total_order(x[i]);
                if (from + i * kThreads >= vocab || key < least) continue;
                if (shift < kTop && key >> (shift + kBits) != prefix) continue;
                const uint32_t digit = key >> shift & (kDigits - 1);
                const Sum here = kByWeight ? Sum(weigh(x[i])) : Sum(1);
#pragma unroll
                for (int d = 0; d < kDigits; d++) at_least[d] += digit >= uint32_t(d) ? here : Sum(0);
            }
        }
        __syncthreads();  // nobody reads the sums before these
        const Sum sum = warp_totals(at_least);
        if (threadIdx.x % 4 == 0) shared.parts[threadIdx.x / 32][threadIdx.x % 32 / 4] = sum;
        __syncthreads();
        if (threadIdx.x < kDigits) {
            uint64_t sum = 0;
            for (int w = 0; w < kWarps; w++) sum += shared.parts[w][threadIdx.x];
            shared.at_least[threadIdx.x] = sum;
        }
        __syncthreads();
        // The lowest digit that holds anything, should rounding of the goal leave it out of reach.
        const bool reached = before + shared.at_least[0] >= goal;
        uint32_t digit = kDigits - 1;
        while (digit && (reached ? before + shared.at_least[digit] < goal : shared.at_least[digit] < shared.at_least[0])) digit--;
        if (digit + 1 < kDigits) before += shared.at_least[digit + 1];
        prefix = prefix << kBits | digit;
    }
    return prefix;
}

__device__ __forceinline__ uint32_t sample(Shared& shared, const float* logits, uint32_t vocab, float temperature,
                                           uint32_t top_k, double top_p, double u) {
    // The largest logit, its first place, and whether anything is NaN.
    uint64_t best = 0;
    uint32_t nan = 0;
    for (uint32_t i = threadIdx.x; i < vocab; i += kThreads) {
        const float x = logits[i];
        nan |= x != x;
        best = max(best, score_key(x, i));
    }
    for (int apart = 16; apart; apart /= 2) best = max(best, uint64_t(__shfl_xor_sync(kAllLanes, best, apart)));
    if (__syncthreads_or(int(nan))) return kNan;
    if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = best;
    __syncthreads();
    best = 0;
    for (int w = 0; w < kWarps; w++) best = max(best, shared.sums[w]);
    const float top = unordered(uint32_t(best >> 32));
    if (!vocab || top == -INFINITY) return kNothing;
    if (top == INFINITY) return kInfinite;
    if (temperature == 0.0f || top_k == 1) return ~uint32_t(best);
    const Weigh weigh = {top, 1.0f / temperature};

    Threshold kept = {0, 0};
    bool cut = false;
    if (top_k && top_k < vocab) {
        uint64_t before;
        kept.key = descend<false>(shared, logits, vocab, weigh, 0, top_k, before);
        kept.ties = top_k - uint32_t(before);
        cut = true;
    }
    uint64_t total = 0;
    for (uint32_t i = threadIdx.x; i < vocab; i += kThreads)
        if (!cut || total_order(logits[i]) > kept.key) total += weigh(logits[i]);
    total = block_total(shared, total);
    if (cut) total += kept.ties * weigh(of_order(kept.key));
    if (top_p < 1.0) {
        const uint64_t goal = max(uint64_t(1), uint64_t(ceil(top_p * double(total))));
        uint64_t before;
        const uint32_t key = descend<true>(shared, logits, vocab, weigh, cut ? kept.key : 0u, goal, before);
        const uint64_t each = max(weigh(of_order(key)), uint64_t(1));
        uint64_t ties = (max(goal, before + 1) - before + each - 1) / each;
        if (cut && key == kept.key) ties = min(ties, uint64_t(kept.ties));
        kept.key = key;
        kept.ties = uint32_t(min(ties, uint64_t(vocab)));
        cut = true;
    }
    const uint32_t chunks = (vocab + kChunk - 1) / kChunk, lane = threadIdx.x % 32;
    const uint64_t tie = cut ? weigh(of_order(kept.key)) : 0;
    for (uint32_t chunk = threadIdx.x / 32; chunk < chunks; chunk += kWarps) {
        uint64_t sum = 0;
        uint32_t ties = 0;
        for (uint32_t i = chunk * kChunk + lane; i < min(vocab, (chunk + 1) * kChunk); i += 32) {
            const uint32_t key = total_order(logits[i]);
            if (!cut || key > kept.key) sum += weigh(logits[i]);
            else if (key == kept.key) ties++;
        }
        sum = warp_total(sum);
        ties = uint32_t(warp_total(ties));
        if (lane == 0) shared.above[chunk] = sum, shared.ties[chunk] = ties;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        uint64_t all = 0;
        uint32_t left = kept.ties;
        for (uint32_t c = 0; c < chunks; c++) {
            const uint32_t here = min(left, shared.ties[c]);
            left -= here;
            all += shared.above[c] + here * tie;
        }
        // Below the total, so that some id crosses it, whatever u x total was rounded to.
        uint64_t goal = min(uint64_t(u * double(all)), all - 1);
        uint32_t chunk = 0;
        left = kept.ties;
        for (; chunk + 1 < chunks; chunk++) {
            const uint32_t here = min(left, shared.ties[chunk]);
            const uint64_t sum = shared.above[chunk] + here * tie;
            if (sum > goal) break;
            goal -= sum;
            left -= here;
        }
        shared.goal = goal;
        shared.prefix = chunk;
        shared.rank = left;
    }
    __syncthreads();
    if (threadIdx.x >= 32) return 0;
    uint64_t goal = shared.goal;
    uint32_t left = shared.rank;
    for (uint32_t from = shared.prefix * kChunk; from < vocab; from += 32) {
        const uint32_t i = from + lane;
        const uint32_t key = i < vocab ? total_order(logits[i]) : 0;
        const bool tied = i < vocab && cut && key == kept.key;
        const uint32_t ties = __ballot_sync(kAllLanes, tied);
        const bool keep = i < vocab && (!cut || key > kept.key || (tied && uint32_t(__popc(ties & ((1u << lane) - 1))) < left));
        uint64_t sum = keep ? weigh(logits[i]) : 0;
        for (int apart = 1; apart < 32; apart *= 2) {
            const uint64_t other = __shfl_up_sync(kAllLanes, sum, apart);
            if (lane >= uint32_t(apart)) sum += other;
        }
        const uint32_t crossed = __ballot_sync(kAllLanes, sum > goal);
        if (crossed) return from + uint32_t(__ffs(int(crossed))) - 1;
        goal -= __shfl_sync(kAllLanes, sum, 31);
        left -= min(left, uint32_t(__popc(ties)));
    }
    return vocab - 1;
}

}  // namespace

RALLREC_CONSTANT(sampling_shared, sizeof(Shared));
RALLREC_CONSTANT(sampling_vocabulary, kChunk * kMostChunks);

// tokens[row] = the token, or what makes the row unusable: ~0 NaN, ~0 - 1 an infinite logit, ~0 - 2
// nothing allowed.
// A block a row: two of them have registers enough, where the compiler would spill for more.
extern "C" __global__ void __launch_bounds__(kThreads, 2)
    sampling(const __grid_constant__ SamplingArgs a) {
    DYNAMIC_SHARED(bytes);
    const SamplingDraw draw = a.draws[blockIdx.x];
    const uint4 words = philox(make_uint2(a.key_x, a.key_y), make_uint4(uint32_t(draw.step), uint32_t(draw.step >> 32), draw.row, draw.sample));
    // 53 bits, as Rng::uniform_f64.
    const uint64_t bits = (uint64_t(words.x) | uint64_t(words.y) << 32) >> 11;
    const double u = double(bits) * (1.0 / 9007199254740992.0);
    const uint32_t token = sample(*reinterpret_cast<Shared*>(bytes), a.logits + blockIdx.x * a.stride, a.vocab, a.temperature, a.top_k, a.top_p, u);
    if (threadIdx.x == 0) a.tokens[blockIdx.x] = token;
}
RALLREC_KERNEL(sampling, kThreads);
