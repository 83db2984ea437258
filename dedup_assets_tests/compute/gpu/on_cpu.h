// Enough of CUDA to run kernels.cu on a CPU: one thread for each thread of a block, and blocks one
// after another. Slow, and strict: reading too early or writing too late shows as a wrong result.

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __shared__ static
#define __restrict__

struct Index { unsigned x, y; };

static thread_local Index threadIdx, blockIdx, blockDim, gridDim;
static std::unique_ptr<std::barrier<>> block_barrier;
static std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;
static float lanes[1024];

static void __syncthreads() { block_barrier->arrive_and_wait(); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
    auto& barrier = *warp_barriers[threadIdx.x / 32];
    lanes[threadIdx.x] = value;
    barrier.arrive_and_wait();
    const float other = lanes[threadIdx.x ^ mask];
    barrier.arrive_and_wait();
    return other;
}

static float __int_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static int atomicAdd(int* address, int value) {
    return std::atomic_ref<int>(*address).fetch_add(value);
}

static int min(int a, int b) { return a < b ? a : b; }

template <class Kernel>
void run_kernel(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    block_barrier = std::make_unique<std::barrier<>>(threads);
    warp_barriers.clear();
    for (unsigned warp = 0; warp < threads / 32; ++warp)
        warp_barriers.push_back(std::make_unique<std::barrier<>>(32));
    auto blocks_done = std::make_unique<std::barrier<>>(threads);
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; ++thread)
        running.emplace_back([&, thread] {
            threadIdx = {thread, 0};
            blockDim = {threads, 1};
            gridDim = {grid_x, grid_y};
            for (unsigned y = 0; y < grid_y; ++y)
                for (unsigned x = 0; x < grid_x; ++x) {
                    blockIdx = {x, y};
                    kernel();
                    blocks_done->arrive_and_wait();
                }
        });
    for (auto& thread : running) thread.join();
}
