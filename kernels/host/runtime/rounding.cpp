#include "rounding.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace rallrec_host {

namespace {

uint32_t size_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits & 0x7fffffffu;
}

double power_of_two(int exponent) {
    const uint64_t bits = uint64_t(1023 + exponent) << 52;
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
}

// Toward zero.
float cut(double x) {
    if (std::fabs(x) < power_of_two(-126)) return float(std::trunc(x * power_of_two(149)) * power_of_two(-149));
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    bits &= ~((uint64_t(1) << 29) - 1);
    std::memcpy(&x, &bits, 8);
    return float(x);
}

// c + the products of up to 16 pairs, `kept` bits behind the leading one of the largest addend.
float aligned_sum(float c, const float* products, unsigned count, int kept) {
    uint32_t most = size_bits(c);
    for (unsigned k = 0; k < count; k++) most = size_bits(products[k]) > most ? size_bits(products[k]) : most;
    if (most >= 0x7f800000u) {
        for (unsigned k = 0; k < count; k++) c += products[k];
        return c;
    }
    const int exponent = int(most >> 23 ? most >> 23 : 1) - 127;
    const double scale = power_of_two(kept - exponent), back = power_of_two(exponent - kept);
    double sum = std::trunc(double(c) * scale);
    for (unsigned k = 0; k < count; k++) sum += std::trunc(double(products[k]) * scale);
    return cut(sum * back);
}

}  // namespace

Rounding rounding() {
    static const Rounding how = [] {
        const char* asked = std::getenv("RALLREC_MMA");
        if (!asked || !*asked || !std::strcmp(asked, "nearest")) return Rounding::nearest;
        if (!std::strcmp(asked, "a100")) return Rounding::a100;
        if (!std::strcmp(asked, "hopper")) return Rounding::hopper;
        std::fprintf(stderr, "RALLREC_MMA is '%s' and none of nearest, a100, hopper\n", asked);
        std::exit(2);
    }();
    return how;
}

void add_products(Rounding how, float* c, const float* a, const float* b, unsigned depth, unsigned n, unsigned stride) {
    if (how == Rounding::nearest) {
        for (unsigned k = 0; k < depth; k++)
            for (unsigned j = 0; j < n; j++) c[j] += a[k] * b[k * stride + j];
        return;
    }
    const unsigned at_once = how == Rounding::a100 ? 8 : 16;
    const int kept = how == Rounding::a100 ? 24 : 25;
    for (unsigned j = 0; j < n; j++)
        for (unsigned from = 0; from < depth; from += at_once) {
            const unsigned count = depth - from < at_once ? depth - from : at_once;
            float products[16];
            for (unsigned k = 0; k < count; k++) products[k] = a[from + k] * b[(from + k) * stride + j];
            c[j] = aligned_sum(c[j], products, count, kept);
        }
}

void add_products(float* c, const float* a, const float* b, unsigned depth, unsigned n, unsigned stride) {
    add_products(rounding(), c, a, b, depth, n, stride);
}

}  // namespace rallrec_host

extern "C" float rallrec_host_add_products(int how, float c, const float* a, const float* b, unsigned depth) {
    using rallrec_host::Rounding;
    rallrec_host::add_products(how == 0 ? Rounding::nearest : how == 1 ? Rounding::a100 : Rounding::hopper, &c, a, b, depth, 1, 1);
    return c;
}
