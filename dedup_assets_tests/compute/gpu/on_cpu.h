// Enough of CUDA to run kernels.cu on a CPU: blocks one after another, the threads of a block as
// fibers that run to the next barrier in an order that differs each time. Strict: a barrier that
// not all threads reach ends the process, and reading too early shows as a wrong result.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <setjmp.h>
#include <ucontext.h>

#define __global__
#define __device__ static
#define __shared__ static
#define __restrict__

struct Index { unsigned x, y; };
struct float4 { float x, y, z, w; };

static Index threadIdx, blockIdx, blockDim, gridDim;

enum State { READY, AT_BARRIER, IN_SHUFFLE, DONE };

struct Fiber {
    ucontext_t context;  // where it begins; from there on it is left and entered by jumps,
    jmp_buf place;       // which need no call of the system
    bool begun;
    std::unique_ptr<char[]> stack{new char[STACK]};
    State state;
    static constexpr size_t STACK = 1 << 16;
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned current;
static std::function<void()> body;
static float lanes[1024];
static uint32_t disorder = 1;

static void yield_as(State state) {
    fibers[current].state = state;
    if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

// Run the current fiber until it waits.
__attribute__((noinline)) static void enter() {
    Fiber& fiber = fibers[current];
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static void __syncthreads() { yield_as(AT_BARRIER); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
    const unsigned mine = current;
    lanes[mine] = value;
    yield_as(IN_SHUFFLE);
    const float other = lanes[mine ^ mask];
    yield_as(IN_SHUFFLE);
    return other;
}

static float __int_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// As `halved` in kernels.cu, for |x| < 65504; bits of an IEEE half.
static unsigned short halved_on_cpu(float x, float& left) {
    const float size = std::fabs(x);
    const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
    const float steps = std::nearbyint(std::ldexp(size, 10 - exponent));  // 1024 to 2048, or below
    left = x - std::copysign(std::ldexp(steps, exponent - 10), x);
    const unsigned magnitude = (unsigned)steps + ((unsigned)(exponent + 14) << 10);
    return (unsigned short)(magnitude | (std::signbit(x) ? 0x8000u : 0u));
}

static int atomicAdd(int* address, int value) {
    const int before = *address;
    *address += value;
    return before;
}

static int min(int a, int b) { return a < b ? a : b; }

static void run_fiber() {
    body();
    yield_as(DONE);
}

// Let go on those threads in begin..end that wait in this state; all or none of those there may.
static bool released(State state, unsigned begin, unsigned end) {
    unsigned waiting = 0;
    for (unsigned i = begin; i < end; ++i) waiting += fibers[i].state == state;
    if (waiting == 0) return false;
    if (waiting != end - begin) {
        std::fprintf(stderr, "%u of %u threads wait for each other\n", waiting, end - begin);
        std::abort();
    }
    for (unsigned i = begin; i < end; ++i) fibers[i].state = READY;
    return true;
}

static void run_block() {
    const unsigned threads = fibers.size();
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = Fiber::STACK;
        makecontext(&fiber.context, run_fiber, 0);
        fiber.state = READY;
        fiber.begun = false;
    }
    for (bool running = true; running;) {
        disorder = disorder * 1664525u + 1013904223u;
        for (unsigned i = 0; i < threads; ++i) {
            current = (i ^ (disorder >> 16)) % threads;  // threads are a power of two
            if (fibers[current].state != READY) continue;
            threadIdx = {current, 0};
            enter();
        }
        running = false;
        for (unsigned warp = 0; warp < threads; warp += 32)
            running |= released(IN_SHUFFLE, warp, warp + 32);
        running = running || released(AT_BARRIER, 0, threads);
    }
}

template <class Kernel>
void run_kernel(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    body = kernel;
    fibers.resize(threads);
    blockDim = {threads, 1};
    gridDim = {grid_x, grid_y};
    for (unsigned y = 0; y < grid_y; ++y)
        for (unsigned x = grid_x; x-- > 0;) {
            blockIdx = {x, y};
            run_block();
        }
}

// For kernels whose threads do not meet.
template <class Kernel>
void run_without_barriers(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    blockDim = {threads, 1};
    gridDim = {grid_x, grid_y};
    for (unsigned y = 0; y < grid_y; ++y)
        for (unsigned x = 0; x < grid_x; ++x)
            for (unsigned i = 0; i < threads; ++i) {
                blockIdx = {x, y};
                threadIdx = {i, 0};
                kernel();
            }
}
