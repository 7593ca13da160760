// Dropout of an adapter's input by masks that are never stored: y = x mask, or y += x mask for the
// backward.
//
// A mask is a pure function of (seed, step, stream, name of the row, column): one Philox call gives
// eight 16-bit draws, the CPU's (src/ops/lora/dropout.rs). A thread takes one call, so its eight
// columns lie 16 apart:
//
//   columns of a block of 128 | 0 .. 15 | 16 .. 31 | ... | 112 .. 127 |       lane l of 16: columns l, 16 + l, ... 112 + l
//   draw of lane l            | w0 low  | w0 high  | ... |  w3 high   |       call: (block * 16 + l, row, stream; step)
//
// and a half-warp touches 64 consecutive bytes at a time.
//
// Bytes: 8 M N and 8 M for the names (12 M N where it adds). About 14 integer instructions a value.

#include "common/philox.cuh"

#define DROPOUT_ARGS(F) F(const float*, x) F(uint32_t, stride_x) F(const uint64_t*, names) F(uint64_t, rows) \
    F(uint32_t, columns) F(uint32_t, key0) F(uint32_t, key1) F(uint32_t, step) F(uint32_t, stream)           \
    F(uint32_t, threshold) F(float, keep) F(int, add) F(float*, y) F(uint32_t, stride_y)
ARGUMENTS(DropoutArgs, DROPOUT_ARGS);

namespace {

constexpr int kThreads = 256;
constexpr uint32_t kLanes = 16, kBlock = 8 * kLanes;

}  // namespace

RALLREC_CONSTANT(dropout_lanes, kLanes);
RALLREC_CONSTANT(dropout_block, kBlock);

extern "C" __global__ void __launch_bounds__(kThreads)
    dropout_f32(const __grid_constant__ DropoutArgs a) {
    const uint32_t calls = (a.columns + kBlock - 1) / kBlock * kLanes;
    const uint64_t unit = uint64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (!calls || unit >= a.rows * calls) return;
    const uint64_t row = unit / calls, name = a.names[row];
    const uint32_t call = uint32_t(unit % calls);
    // Counter: column block and lane in 16 bits, row in 28, stream in 20.
    const uint64_t index = (uint64_t(a.stream) << 44 | (name & 0x0FFFFFFFu) << 16) + call;
    const uint4 words = philox(make_uint2(a.key0, a.key1), make_uint4(uint32_t(index), uint32_t(index >> 32), uint32_t(name >> 32), a.step));
    const uint32_t draws[4] = {words.x, words.y, words.z, words.w};
    const uint32_t first = call / kLanes * kBlock + call % kLanes;
#pragma unroll
    for (uint32_t h = 0; h < 8; h++) {
        const uint32_t column = first + h * kLanes;
        if (column >= a.columns) continue;
        const float factor = (draws[h / 2] >> (16 * (h % 2)) & 0xFFFFu) < a.threshold ? 0.0f : a.keep;
        float value = a.x[row * a.stride_x + column] * factor;
        if (a.add) value += a.y[row * a.stride_y + column];
        a.y[row * a.stride_y + column] = value;
    }
}
RALLREC_KERNEL(dropout_f32, kThreads);
