// Rows copied to other places: new keys and values into a cache, the last rows of sequences out of a batch.
//
//   to[to_rows[i]] = from[from_rows[i]], 16 bytes a thread; an index list that is null means i itself
//
// Bytes: 2 s rows width and 4 for each index. Two rows of one place in `to` are the caller's mistake.

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
