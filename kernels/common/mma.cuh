// Matrix instructions of a warp (sm_80 and up) and the loads that feed them. Fragment layouts: see
// host/runtime/mma.cpp.
#pragma once

#include "base.cuh"

#if defined(RALLREC_HOST)
namespace rallrec_host {
inline void mma(const Site* site, Finish finish, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    struct {
        uint32_t a[4], b[2];
        float c[4];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {c[0], c[1], c[2], c[3]}};
    Slots* slots = meet(site, ~0u, &mine, sizeof mine, finish, false);
    std::memcpy(c, slots->of[self->lane()], sizeof c);
    leave(slots);
}
inline void load_matrix(const Site* site, Finish finish, uint32_t* out, int count, const void* row) {
    const void* mine = int(self->lane()) < 8 * count ? row : nullptr;
    Slots* slots = meet(site, ~0u, &mine, sizeof mine, finish, false);
    std::memcpy(out, slots->of[self->lane()], 4 * count);
    leave(slots);
}
}  // namespace rallrec_host
// C += A B for 16 x 16 (bf16) times 16 x 8.
#define mma_bf16(C, A, B) ::rallrec_host::mma(RALLREC_SITE("mma_bf16"), ::rallrec_host::mma_bf16, (C), (A), (B))
// C = A B, of the same shapes.
#define mma_bf16_fresh(C, A, B)                      \
    do {                                             \
        (C)[0] = (C)[1] = (C)[2] = (C)[3] = 0.0f; \
        mma_bf16(C, A, B);                           \
    } while (0)
#define mma_tf32(C, A, B) ::rallrec_host::mma(RALLREC_SITE("mma_tf32"), ::rallrec_host::mma_tf32, (C), (A), (B))
// Four 8 x 8 matrices of 16-bit values: lane 8 m + r names row r of matrix m.
#define ldmatrix_x4(OUT, ROW) \
    ::rallrec_host::load_matrix(RALLREC_SITE("ldmatrix_x4"), ::rallrec_host::ldmatrix, (OUT), 4, (ROW))
#define ldmatrix_x4_trans(OUT, ROW) \
    ::rallrec_host::load_matrix(RALLREC_SITE("ldmatrix_x4_trans"), ::rallrec_host::ldmatrix_trans, (OUT), 4, (ROW))
#else
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_bf16_fresh(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(row)))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(row)))
                 : "memory");
}
#endif
