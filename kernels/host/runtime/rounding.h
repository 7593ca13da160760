// How matrix units add. They align all addends of a product to the largest one, cut off what is
// below the last bit that they keep, add, and cut off again: they do not round to nearest. Measured
// by Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores" (PeerJ CS
// 7:e330), for the A100; the figures of Hopper are those of later measurements of the same kind.
#pragma once

#include <cstdint>

namespace rallrec_host {

// `RALLREC_MMA=nearest` (as written down: one f32 addition after the other, each rounded), `a100`
// (8 products and the accumulator at once, one bit more than f32 has) or `hopper` (16 products, two
// bits more).
enum class Rounding { nearest, a100, hopper };
Rounding rounding();

// c[j] += a[k] b[k][j] over `depth` values of k, for `n` values of j; rows of b are `stride` apart.
// Products of 16-bit operands are exact.
void add_products(float* c, const float* a, const float* b, unsigned depth, unsigned n, unsigned stride);

// The same by one way of rounding.
void add_products(Rounding how, float* c, const float* a, const float* b, unsigned depth, unsigned n, unsigned stride);

}  // namespace rallrec_host

// For tests: one sum of `depth` products, `how` being 0, 1 or 2.
extern "C" float rallrec_host_add_products(int how, float c, const float* a, const float* b, unsigned depth);
