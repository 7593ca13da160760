// Rows copied or added to other places: new keys and values into a cache, the last rows of
// sequences out of a batch and their gradients back into it.
//
//   copy_rows   to[to_rows[i]]  = from[from_rows[i]]                           16 bytes a thread
//   add_rows    to[to_rows[i]] += from[starts[i]] + ... + from[starts[i + 1] - 1]     4 values a thread, in this order
//
// An index list that is null means i itself. Bytes: 2 s rows width of a copy, 4 (sources + 2 rows)
// width of a sum, and 4 for each index. Two rows of one place in `to` are the caller's mistake.

#include "common/base.cuh"

constexpr int kThreads = 256;

extern "C" __global__ void __launch_bounds__(kThreads)
    copy_rows(const uint4* from, const uint32_t* from_rows, uint4* to, const uint32_t* to_rows, uint64_t rows, uint32_t vectors) {
    const uint64_t at = uint64_t(blockIdx.x) * kThreads + threadIdx.x, row = at / vectors, vector = at % vectors;
    if (row >= rows) return;
    const uint64_t source = from_rows ? from_rows[row] : row, place = to_rows ? to_rows[row] : row;
    to[place * vectors + vector] = from[source * vectors + vector];
}
RALLREC_KERNEL(copy_rows, kThreads);

extern "C" __global__ void __launch_bounds__(kThreads)
    add_rows_f32(const float* from, const uint32_t* starts, float* to, const uint32_t* to_rows, uint64_t rows, uint32_t vectors) {
    constexpr int V = Vec<float>::size;
    const uint64_t at = uint64_t(blockIdx.x) * kThreads + threadIdx.x, row = at / vectors, vector = at % vectors;
    if (row >= rows) return;
    const uint64_t begin = starts ? starts[row] : row, end = starts ? starts[row + 1] : row + 1;
    const uint64_t place = to_rows ? to_rows[row] : row;
    float sum[V] = {};
    for (uint64_t source = begin; source < end; source++) {
        Vec<float> part;
        part.load(from + (source * vectors + vector) * V);
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] += part.get(i);
    }
    float* out = to + (place * vectors + vector) * V;
    Vec<float> old;
    old.load(out);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] += old.get(i);
    Vec<float>::store(out, sum);
}
RALLREC_KERNEL(add_rows_f32, kThreads);
