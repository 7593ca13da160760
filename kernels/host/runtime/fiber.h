// A fiber: a stack of its own and a hand-written switch (about 10 ns; ucontext makes two system
// calls a switch).
#pragma once

#include <cstddef>
#include <cstdint>

namespace rallrec_host {

constexpr size_t kShifts = 512;  // the places at which a stack may begin, a cache line apart
// At a stack's low end, where nothing may be written. One frame may be larger than a page.
constexpr size_t kGuardBytes = 64 * 1024;
// The guard, what a thread may use, and what its shift takes. Only touched pages cost memory.
constexpr size_t kStackBytes = kGuardBytes + 256 * 1024 + kShifts * 64;

struct Fiber {
    void* sp = nullptr;       // where it stands while it does not run
    char* stack = nullptr;    // kStackBytes, the guard first
    size_t shift = 0;         // bytes at the stack's end that are left free
    void* tsan = nullptr;     // ThreadSanitizer's name for it
    void* fake = nullptr;     // AddressSanitizer's
    int quiet = 0;            // depth of `Quiet` scopes
};

// Ends the program with a message: sizes are the user's, and an abort says nothing.
[[noreturn]] void no_memory(const char* what);

// Gives the fiber a stack once, and prepares it to enter `entry`, which must not return.
void prepare(Fiber& fiber, void (*entry)());

// Gives its stack back. ThreadSanitizer's fibers stay: it ends the program where one is given back
// that was left in the middle.
void release(Fiber& fiber);

// From the scheduler to a fiber and back.
void resume(Fiber& fiber);
void suspend(Fiber& fiber);
// As `suspend`, for a fiber that never runs again.
void retire(Fiber& fiber);
// The first thing that a fiber's entry does.
void entered();

// Return addresses of a fiber that does not run, and of the caller; innermost first. Stops at the
// stack's end.
int frames_of(const Fiber& fiber, uintptr_t* out, int most);
int frames_here(const Fiber& fiber, uintptr_t* out, int most);
int frames_from(const Fiber& fiber, uintptr_t frame, uintptr_t* out, int most);

// ThreadSanitizer's order of memory accesses between meeting threads; nothing elsewhere.
void order_release(void* key);
void order_acquire(void* key);
void saw_write(void* p, size_t bytes);
void saw_read(const void* p, size_t bytes);
// The runtime's own accesses are none of ThreadSanitizer's business; these scopes hide them, per
// fiber.
void quiet_begin(int& depth);
void quiet_end(int& depth);
// AddressSanitizer's marks; nothing elsewhere.
void mark_unusable(const void* p, size_t bytes);
void mark_usable(const void* p, size_t bytes);

#if defined(RALLREC_TSAN)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

}  // namespace rallrec_host
