// Copies from global to shared memory that do not pass through registers (cp.async, sm_80 and up).
#pragma once

#include "base.cuh"

// Copies 16 bytes; of them the first `valid` from `global`, zeros after. Both addresses aligned to
// 16.
#if defined(RALLREC_HOST)
#define cp_async16(TO, FROM, VALID) ::rallrec_host::copy_async(RALLREC_SITE("cp_async16"), (TO), (FROM), 16, (VALID))
#define cp_async_commit() ::rallrec_host::copy_commit()
// Waits until at most LEFT of the groups committed by this thread are under way.
#define cp_async_wait(LEFT) ::rallrec_host::copy_wait(RALLREC_SITE("cp_async_wait"), (LEFT))
#else
__device__ __forceinline__ void cp_async16(void* to, const void* from, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint32_t(__cvta_generic_to_shared(to))), "l"(from),
                 "r"(valid)
                 : "memory");
}
#define cp_async_commit() asm volatile("cp.async.commit_group;" ::: "memory")
#define cp_async_wait(LEFT) asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory")
#endif
