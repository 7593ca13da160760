// Consistency merging in f64: moments of each row's samples, the merge, and its sweep over a grid
// in one launch.
//
// merge_moments: 128 rows a block, a thread a row. The samples of the block's rows come through
// shared memory up to 32 at a time, so that loads are coalesced while every row is still summed in
// the order of its samples:
//
//   global  row r: s0 s1 ... s31 | s32 ...        shared [128][33]: written by rows, read by columns, no bank conflict
//
// Rows of fewer samples follow each other without a gap, and so do the lanes that fetch them.
//
// Two passes (mean, then squares) as the CPU does: no cancellation, exactly 0 for equal samples. Up
// to 32 samples a row are read from memory once.
//
// merge_sweep: blockIdx.y is a point of the grid, blockIdx.x 256 rows. Each thread merges rows and
// sums their log loss; block partials are reduced in fixed order by sum_f64, long rows of them
// piece by piece. p of every point can be kept too (AUC needs it).
//
// Bytes: 8 (samples + 2 rows); of a sweep 8 (2 experts + 1) rows once (later points find them in
// L2), 8 rows a point if kept. FLOP: 4 a sample; (6 experts + 8) a row and point.

#include "common/warp.cuh"

#define SWEEP_ARGS(F) F(const double*, means) F(const double*, vars) F(const double*, trust) F(uint32_t, experts) \
    F(uint64_t, rows) F(const double*, grid) F(const unsigned char*, labels) F(double, clip) F(double*, p)        \
    F(double*, losses)
ARGUMENTS(SweepArgs, SWEEP_ARGS);

namespace {

constexpr int kRows = 128;
constexpr int kSamples = 32;
constexpr int kSweep = 256;

// The weighted mean as a walk from the last expert's mean: equal means stay exact, and rounding
// cannot leave their range.
__device__ __forceinline__ double merged(const double* __restrict__ means, const double* __restrict__ vars,
                                         const double* __restrict__ trust, uint32_t experts, uint64_t rows, uint64_t r,
                                         double epsilon, double first_alpha, double* share) {
    double total = 0, first = 0;
    for (uint32_t e = 0; e < experts; e++) {
        const double alpha = e == 0 ? first_alpha : trust[2 * e];
        const double w = alpha / (vars[e * rows + r] / trust[2 * e + 1] + epsilon);
        if (e == 0) first = w;
        total += w;
    }
    const double base = means[(experts - 1) * rows + r];
    double at = base, low = base, high = base;
    for (uint32_t e = 0; e + 1 < experts; e++) {
        const double alpha = e == 0 ? first_alpha : trust[2 * e];
        const double w = alpha / (vars[e * rows + r] / trust[2 * e + 1] + epsilon), mean = means[e * rows + r];
        at += w / total * (mean - base);
        low = mean < low ? mean : low;
        high = mean > high ? mean : high;
    }
    if (share) *share = first / total;
    return at < low ? low : at > high ? high : at;
}

// The same in every thread; order fixed.
__device__ __forceinline__ double block_sum(double x, double* parts) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    double all = 0;
    for (int w = 0; w < kSweep / 32; w++) all += parts[w];
    __syncthreads();
    return all;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kRows)
    merge_moments(const double* x, uint64_t rows, uint32_t stride, const uint32_t* counts, uint32_t limit, double* mean,
                  double* var) {
    SHARED(double, tile, [kRows][kSamples + 1]);
    const uint64_t base = uint64_t(blockIdx.x) * kRows, r = base + threadIdx.x;
    const uint32_t used = r < rows ? min(counts[r], limit) : 0;
    double first = 0, sum = 0, m = 0, squares = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t from = 0; from < stride; from += kSamples) {
            // Rows that one tile holds whole are there still.
            if (pass == 0 || stride > kSamples) {
                __syncthreads();
                // Neighbouring threads take neighbouring samples. A step of 128 samples is so many
                // rows and samples more: no division.
                const uint32_t width = min(stride - from, uint32_t(kSamples));
                const uint32_t rows_here = uint32_t(min(rows - base, uint64_t(kRows)));
                const uint32_t more_rows = kRows / width, more_samples = kRows % width;
                uint32_t row = threadIdx.x / width, sample = threadIdx.x % width;
                const double* first_row = x + base * stride + from;
#pragma unroll 8
                for (; row < rows_here; row += more_rows) {
                    tile[row][sample] = first_row[uint64_t(row) * stride + sample];
                    sample += more_samples;
                    if (sample >= width) {
                        sample -= width;
                        row++;
                    }
                }
                __syncthreads();
            }
            for (uint32_t s = 0; s < kSamples && from + s < used; s++) {
                const double value = tile[threadIdx.x][s];
                if (from + s == 0) first = value;
                if (pass == 0)
                    sum += value - first;
                else
                    // Rounded before it is added, as the CPU does: no fused form.
                    squares += __dmul_rn(value - m, value - m);
            }
        }
        if (pass == 0) m = first + sum / used;
    }
    if (r < rows) {
        mean[r] = m;
        var[r] = squares / used;
    }
}
RALLREC_KERNEL(merge_moments, kRows);

// `means` and `vars` are experts x rows, `trust` pairs (alpha, tau).
extern "C" __global__ void __launch_bounds__(kSweep)
    merge_rows(const double* means, const double* vars, const double* trust, uint32_t experts, uint64_t rows, double epsilon,
               double* p, double* share) {
    const uint64_t r = uint64_t(blockIdx.x) * kSweep + threadIdx.x;
    if (r < rows) p[r] = merged(means, vars, trust, experts, rows, r, epsilon, trust[0], share + r);
}
RALLREC_KERNEL(merge_rows, kSweep);

// Point blockIdx.y of `grid`, pairs (alpha of the first expert, epsilon). `p` is points x rows or
// null, `losses` points x gridDim.x: sums over a block's rows of the log loss against the labels 0
// and 1.
extern "C" __global__ void __launch_bounds__(kSweep)
    merge_sweep(const __grid_constant__ SweepArgs a) {
    SHARED(double, parts, [kSweep / 32]);
    const uint64_t r = uint64_t(blockIdx.x) * kSweep + threadIdx.x;
    const double alpha = a.grid[2 * blockIdx.y], epsilon = a.grid[2 * blockIdx.y + 1];
    double loss = 0;
    if (r < a.rows) {
        const double value = merged(a.means, a.vars, a.trust, a.experts, a.rows, r, epsilon, alpha, nullptr);
        if (a.p) a.p[blockIdx.y * a.rows + r] = value;
        const double held = value < a.clip ? a.clip : value > 1 - a.clip ? 1 - a.clip : value;
        loss = -log(a.labels[r] ? held : 1 - held);
    }
    loss = block_sum(loss, parts);
    if (threadIdx.x == 0) a.losses[uint64_t(blockIdx.y) * gridDim.x + blockIdx.x] = loss;
}
RALLREC_KERNEL(merge_sweep, kSweep);

// Sums of the rows of `x` (rows x count), each in `pieces` of `piece` values: block row x pieces
// + p gives scale times the sum of piece p. The order is fixed by the sizes.
extern "C" __global__ void __launch_bounds__(kSweep)
    sum_f64(const double* x, uint64_t count, uint64_t piece, uint32_t pieces, double scale, double* out) {
    SHARED(double, parts, [kSweep / 32]);
    const double* row = x + blockIdx.x / pieces * count;
    const uint64_t from = blockIdx.x % pieces * piece, to = min(count, from + piece);
    double sum = 0;
    for (uint64_t i = from + threadIdx.x; i < to; i += kSweep) sum += row[i];
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) out[blockIdx.x] = scale * sum;
}
RALLREC_KERNEL(sum_f64, kSweep);
