// Matrix instructions of a warp, from the fragments that its lanes bring.
//
// Fragment layout of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), lane = 4 g + t:
//   A 16 x 16, row-major:  a[0] = A[g][2t..]  a[1] = A[g+8][2t..]  a[2] = A[g][2t+8..]  a[3] = A[g+8][2t+8..]
//   B 16 x 8, by columns:  b[0] = B[2t..][g]  b[1] = B[2t+8..][g]
//   C 16 x 8:              c[0..2] = C[g][2t..]  c[2..4] = C[g+8][2t..]
#include "rounding.h"
#include "runtime.h"

namespace rallrec_host {

namespace {

float of_bf16(uint16_t h) { return __uint_as_float(unsigned(h) << 16); }

float of_f16(uint16_t h) {
    const unsigned sign = unsigned(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) {
        float value = float(mantissa) * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

struct Operands {
    uint32_t a[4], b[2];
    float c[4];
};
static_assert(sizeof(Operands) <= kSlotBytes, "a lane's operands fit its slot");

// c += a b with `K` = 16 or 8, then handed back lane by lane.
template <int K> void multiply(Slots& slots, const float (&a)[16][K], const float (&b)[K][8]) {
    float c[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Operands o = slots.get<Operands>(lane);
        const unsigned g = lane / 4, t = lane % 4;
        for (int r = 0; r < 4; r++) c[g + 8 * (r / 2)][2 * t + r % 2] = o.c[r];
    }
    for (int i = 0; i < 16; i++) add_products(c[i], a[i], b[0], K, 8, 8);
    for (unsigned lane = 0; lane < 32; lane++) {
        const unsigned g = lane / 4, t = lane % 4;
        float out[4];
        for (int r = 0; r < 4; r++) out[r] = c[g + 8 * (r / 2)][2 * t + r % 2];
        slots.set(lane, out);
    }
}

void whole_warp(const Slots& slots, const Site* site) {
    if (slots.mask != ~0u) fail(site, "%s needs the whole warp", site->what);
}

template <class Decode> void mma_16bit(Slots& slots, const Site* site, Decode decode) {
    whole_warp(slots, site);
    float a[16][16], b[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Operands o = slots.get<Operands>(lane);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned r = 0; r < 4; r++)
                a[g + 8 * (r % 2)][2 * t + half + 8 * (r / 2)] = decode(uint16_t(o.a[r] >> 16 * half));
            for (unsigned r = 0; r < 2; r++) b[2 * t + half + 8 * r][g] = decode(uint16_t(o.b[r] >> 16 * half));
        }
    }
    multiply<16>(slots, a, b);
}

}  // namespace

void mma_bf16(Slots& slots, const Site* site) { mma_16bit(slots, site, of_bf16); }
void mma_f16(Slots& slots, const Site* site) { mma_16bit(slots, site, of_f16); }

// m16n8k8: a[0] = A[g][t], a[1] = A[g+8][t], a[2] = A[g][t+4], a[3] = A[g+8][t+4]; b[0] = B[t][g],
// b[1] = B[t+4][g]. The low 13 bits of an operand are not looked at.
void mma_tf32(Slots& slots, const Site* site) {
    whole_warp(slots, site);
    float a[16][8], b[8][8];
    auto cut = [](uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); };
    for (unsigned lane = 0; lane < 32; lane++) {
        const Operands o = slots.get<Operands>(lane);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; r++) a[g + 8 * (r % 2)][t + 4 * (r / 2)] = cut(o.a[r]);
        for (unsigned r = 0; r < 2; r++) b[t + 4 * r][g] = cut(o.b[r]);
    }
    multiply<8>(slots, a, b);
}

namespace {

// Lane 8 m + r brings the address of row r of the 8 x 8 matrix m; every lane gets two 16-bit values
// of each matrix.
void load_matrices(Slots& slots, const Site* site, bool trans) {
    whole_warp(slots, site);
    uint16_t rows[4][8][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        const char* p = slots.get<const char*>(lane);
        if (!p) continue;  // ldmatrix.x1 and .x2 use the first lanes' addresses only
        if (reinterpret_cast<uintptr_t>(p) % 16) fail(site, "%s: the row of lane %u is not aligned to 16 bytes", site->what, lane);
        check_shared_read(site, p, 16);
        std::memcpy(rows[lane / 8][lane % 8], p, 16);
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        const unsigned g = lane / 4, t = lane % 4;
        uint32_t out[4];
        for (int m = 0; m < 4; m++) {
            const uint16_t low = trans ? rows[m][2 * t][g] : rows[m][g][2 * t];
            const uint16_t high = trans ? rows[m][2 * t + 1][g] : rows[m][g][2 * t + 1];
            out[m] = low | uint32_t(high) << 16;
        }
        slots.set(lane, out);
    }
}

}  // namespace

void ldmatrix(Slots& slots, const Site* site) { load_matrices(slots, site, false); }
void ldmatrix_trans(Slots& slots, const Site* site) { load_matrices(slots, site, true); }

}  // namespace rallrec_host
