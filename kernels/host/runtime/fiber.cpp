#include "fiber.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

// void rallrec_host_switch(void** save, void* load): keeps what the ABI says a call must keep,
// swaps stacks, goes on.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl rallrec_host_switch
.type rallrec_host_switch, @function
rallrec_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size rallrec_host_switch, .-rallrec_host_switch
)");
namespace {
constexpr int kSavedWords = 7;   // six registers and the return address
constexpr int kFramePointer = 5;
constexpr int kReturn = 6;
}  // namespace
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl rallrec_host_switch
.type rallrec_host_switch, %function
rallrec_host_switch:
    sub sp, sp, #160
    stp x29, x30, [sp, #0]
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x29, x30, [sp, #0]
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size rallrec_host_switch, .-rallrec_host_switch
)");
namespace {
constexpr int kSavedWords = 20;
constexpr int kFramePointer = 0;
constexpr int kReturn = 1;
}  // namespace
#else
#error "the host runtime knows x86-64 and AArch64; add a switch for this machine here"
#endif

extern "C" void rallrec_host_switch(void** save, void* load);

#if defined(RALLREC_TSAN)
extern "C" {
void* __tsan_create_fiber(unsigned);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void __tsan_read_range(void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}
#endif
#if defined(RALLREC_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_poison_memory_region(const volatile void*, size_t);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#endif

namespace rallrec_host {

namespace {
// The stack that called the scheduler on this OS thread.
struct Home {
    void* sp;
    void* tsan;
    void* fake;
    const void* stack;
    size_t stack_bytes;
};
__thread Home home;

void go_home(Fiber& fiber, bool for_good) {
#if defined(RALLREC_ASAN)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake, home.stack, home.stack_bytes);
#endif
#if defined(RALLREC_TSAN)
    __tsan_switch_to_fiber(home.tsan, 1);
#endif
    (void)for_good;
    rallrec_host_switch(&fiber.sp, home.sp);
#if defined(RALLREC_ASAN)
    __sanitizer_finish_switch_fiber(fiber.fake, &home.stack, &home.stack_bytes);
#endif
}
}  // namespace

void no_memory(const char* what) {
    std::fprintf(stderr,
                 "rallrec: host build of the kernels: no memory for %s\n"
                 "  next: allow the process more memory (a container's limit, ulimit -v)\n",
                 what);
    std::_Exit(1);
}

void prepare(Fiber& fiber, void (*entry)()) {
    if (!fiber.stack) {
        void* p = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            no_memory("a thread's stack");
        }
        mprotect(p, kGuardBytes, PROT_NONE);
        fiber.stack = static_cast<char*>(p);
        // Stacks that all end at the same place of a page share a few sets of the cache, and push
        // each other out at every switch. So there are `kShifts` ends, neighbours far from each
        // other.
        static __thread unsigned made = 0;
        fiber.shift = size_t(made++ * 37 % kShifts) * 64;
#if defined(RALLREC_TSAN)
        fiber.tsan = __tsan_create_fiber(0);
#endif
    }
    mark_usable(fiber.stack + kGuardBytes, kStackBytes - kGuardBytes);
    fiber.fake = nullptr;
    // 16-byte alignment as if `entry` had been called; a null return address and frame end every
    // walk.
    void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes - 128 - fiber.shift);
    top[0] = top[1] = nullptr;
#if defined(__x86_64__)
    void** sp = top + 1 - kSavedWords;  // the word above is where `entry`'s return address stands
#else
    void** sp = top - kSavedWords;
#endif
    for (int i = 0; i < kSavedWords; i++) sp[i] = nullptr;
    sp[kReturn] = reinterpret_cast<void*>(entry);
    fiber.sp = sp;
}

void release(Fiber& fiber) {
    if (!fiber.stack || kThreadSanitizer) return;
    mark_usable(fiber.stack, kStackBytes);
    munmap(fiber.stack, kStackBytes);
    fiber.stack = nullptr;
}

void resume(Fiber& fiber) {
#if defined(RALLREC_TSAN)
    home.tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
#if defined(RALLREC_ASAN)
    __sanitizer_start_switch_fiber(&home.fake, fiber.stack, kStackBytes);
#endif
    rallrec_host_switch(&home.sp, fiber.sp);
#if defined(RALLREC_ASAN)
    __sanitizer_finish_switch_fiber(home.fake, nullptr, nullptr);
#endif
}

void suspend(Fiber& fiber) { go_home(fiber, false); }

void retire(Fiber& fiber) {
    go_home(fiber, true);
    std::abort();
}

void entered() {
#if defined(RALLREC_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &home.stack, &home.stack_bytes);
#endif
}

// A frame is (caller's frame, return address) on both machines.
int frames_from(const Fiber& fiber, uintptr_t frame, uintptr_t* out, int most) {
    const uintptr_t low = reinterpret_cast<uintptr_t>(fiber.stack) + kGuardBytes, high = low + kStackBytes - kGuardBytes - 16;
    int n = 0;
    while (n < most && frame >= low && frame <= high && frame % 8 == 0) {
        const uintptr_t* at = reinterpret_cast<const uintptr_t*>(frame);
        if (!at[1]) break;
        out[n++] = at[1];
        if (at[0] <= frame) break;
        frame = at[0];
    }
    return n;
}

int frames_of(const Fiber& fiber, uintptr_t* out, int most) {
    const uintptr_t* saved = static_cast<const uintptr_t*>(fiber.sp);
    if (most < 1) return 0;
    out[0] = saved[kReturn];
    return 1 + frames_from(fiber, saved[kFramePointer], out + 1, most - 1);
}

int frames_here(const Fiber& fiber, uintptr_t* out, int most) {
    return frames_from(fiber, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), out, most);
}

void order_release(void* key) {
    (void)key;
#if defined(RALLREC_TSAN)
    __tsan_release(key);
#endif
}

void order_acquire(void* key) {
    (void)key;
#if defined(RALLREC_TSAN)
    __tsan_acquire(key);
#endif
}

void saw_write(void* p, size_t bytes) {
    (void)p, (void)bytes;
#if defined(RALLREC_TSAN)
    __tsan_write_range(p, bytes);
#endif
}

void saw_read(const void* p, size_t bytes) {
    (void)p, (void)bytes;
#if defined(RALLREC_TSAN)
    __tsan_read_range(const_cast<void*>(p), bytes);
#endif
}

void quiet_begin(int& depth) {
    depth++;
#if defined(RALLREC_TSAN)
    __tsan_ignore_thread_begin();
#endif
}

void quiet_end(int& depth) {
    depth--;
#if defined(RALLREC_TSAN)
    __tsan_ignore_thread_end();
#endif
}

void mark_unusable(const void* p, size_t bytes) {
    (void)p, (void)bytes;
#if defined(RALLREC_ASAN)
    __asan_poison_memory_region(p, bytes);
#endif
}

void mark_usable(const void* p, size_t bytes) {
    (void)p, (void)bytes;
#if defined(RALLREC_ASAN)
    __asan_unpoison_memory_region(p, bytes);
#endif
}

}  // namespace rallrec_host
