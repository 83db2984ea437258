// Kernels of compute.device_search, compute.kmeans and compute.exact. In `screen` and `rescore` a
// block of threads serves one row of one matrix of products; `row` counts within a cluster, `start`
// maps it to the arrays of all rows. Every block is of whole warps.

#define NONE __int_as_float(0xff800000)  // minus infinity

// CuPy compiles with -ftz=true, under which a plain cast takes float32 numbers below 1.2e-38 for
// zero. A score is a function of the rows, on every device.
__device__ double widened(float x)
{
#ifdef __CUDACC_RTC__
    double y;
    asm("cvt.f64.f32 %0, %1;" : "=d"(y) : "f"(x));
    return y;
#else
    return x;
#endif
}

__device__ float rounded(double x)
{
#ifdef __CUDACC_RTC__
    float y;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(y) : "d"(x));
    return y;
#else
    return (float)x;
#endif
}

// The float16 number nearest to `x`, and what is left.
__device__ unsigned short halved(float x, float& left)
{
#ifdef __CUDACC_RTC__
    unsigned short bits;
    float value;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    left = x - value;
    return bits;
#else
    return halved_on_cpu(x, left);
#endif
}

// The dot product of two rows in the order of summation of compute.exact, in every thread. It takes
// (dim + 1) / 2 doubles of dynamic shared memory, which are free after the next barrier.
__device__ double dot(const float* __restrict__ a, const float* __restrict__ b, int dim)
{
    extern __shared__ double terms[];
    int half = (dim + 1) / 2;  // the first fold is taken on the way, to halve the memory
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        double term = widened(a[i]) * widened(b[i]);
        if (half + i < dim) term += widened(a[half + i]) * widened(b[half + i]);
        terms[i] = term;
    }
    __syncthreads();
    for (int width = half; width > 1; width = half) {
        half = (width + 1) / 2;
        for (int i = threadIdx.x; i < width - half; i += blockDim.x) terms[i] += terms[half + i];
        __syncthreads();
    }
    return terms[0];
}

extern "C" {

// n float32 numbers in float64, and back. Grid: blocks that cover n.
__global__ void widen(const float* __restrict__ x, double* y, long long n)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = widened(x[i]);
}

__global__ void narrow(const double* __restrict__ x, float* y, long long n)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = rounded(x[i]);
}

// The squared length of each row. Grid: rows. Dynamic shared memory: see `dot`.
__global__ void square(const float* __restrict__ x, int dim, double* norms)
{
    const float* __restrict__ row = x + (long long)blockIdx.x * dim;
    const double sum = dot(row, row, dim);
    if (threadIdx.x == 0) norms[blockIdx.x] = sum;
}

// Rows in float16, padded with zeros, and the lengths of what that rounds away.
//
// Grid: rows of `half`.
//   x, dim    all rows, float32; original: of each row of `half` its number in x
__global__ void halve(
    const float* __restrict__ x, int dim, const long long* __restrict__ original,
    unsigned short* half, int padded, float* residual)
{
    __shared__ float partial[32];
    const float* __restrict__ row = x + original[blockIdx.x] * dim;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < padded; i += blockDim.x) {
        float left;
        half[(long long)blockIdx.x * padded + i] = halved(i < dim ? row[i] : 0.0f, left);
        sum += left * left;
    }
    for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lane);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int warp = 1; warp < (int)blockDim.x / 32; ++warp) sum += partial[warp];
    residual[blockIdx.x] = sqrtf(sum);
}

// Raise the best product of each row by one tile of products, and list the columns that may still
// be the best: those within `margin` of it. Only columns before the row count. The tile with
// column 0 comes first; it starts best and count.
//
// Grid: (rows of a matrix, matrices).
//   product      products of rows first_row.. and columns first_column..: matrix after matrix;
//                each row begins at a multiple of 16 bytes
//   start, size  of each matrix: its cluster's first row in `margin`, and how many it has
//   best, count  of each row of each matrix: best product so far, and columns listed so far
//   column, value  `slots` for each row; count goes on where they do not suffice
__global__ void screen(
    const float* __restrict__ product, long long matrix_stride, long long row_stride,
    int first_row, int first_column, int columns,
    const long long* __restrict__ start, const long long* __restrict__ size,
    const float* __restrict__ margin,
    float* best, int* count, int* column, float* value, int slots)
{
    __shared__ float partial[32];
    __shared__ int listed;
    const int row = first_row + (int)blockIdx.x;
    const int matrix = blockIdx.y;
    const int end = min(columns, row - first_column);
    if (row >= size[matrix] || end <= 0) return;

    const long long at = (long long)matrix * gridDim.x + blockIdx.x;
    float highest = first_column == 0 ? NONE : best[at];
    if (threadIdx.x == 0) listed = first_column == 0 ? 0 : count[at];

    const float* __restrict__ values =
        product + matrix * matrix_stride + blockIdx.x * row_stride;
    const float4* __restrict__ fours = reinterpret_cast<const float4*>(values);
    float top = NONE;
    for (int c = threadIdx.x; c < end / 4; c += blockDim.x) {
        const float4 four = fours[c];
        top = fmaxf(top, fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w)));
    }
    for (int c = end / 4 * 4 + threadIdx.x; c < end; c += blockDim.x) top = fmaxf(top, values[c]);
    for (int lane = 16; lane > 0; lane /= 2)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lane));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = top;
    __syncthreads();  // from here on best[at] may be written: every thread has read it
    for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) top = fmaxf(top, partial[warp]);

    highest = fmaxf(highest, top);
    const float threshold = highest - margin[start[matrix] + row];
    if (top >= threshold) {
        for (int c = threadIdx.x; c < end; c += blockDim.x) {
            if (values[c] < threshold) continue;
            const int slot = atomicAdd(&listed, 1);
            if (slot < slots) {
                column[at * slots + slot] = first_column + c;
                value[at * slots + slot] = values[c];
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        best[at] = highest;
        count[at] = listed;
    }
}

// Score the listed columns of each row in float64, in the order of summation of compute.exact, and
// keep the highest score and the earliest column that attains it. A row with more candidates than
// slots is marked in `overflow` instead.
//
// Grid as for `screen`. Dynamic shared memory: see `dot`.
//   x, dim       all rows, float32; original: of each distinct row its number in x
//   norms        squared lengths of the rows of x
//   score, index, overflow  results for each distinct row; index counts within the cluster
__global__ void rescore(
    const float* __restrict__ x, int dim, const double* __restrict__ norms,
    const long long* __restrict__ original, int first_row,
    const long long* __restrict__ start, const long long* __restrict__ size,
    const float* __restrict__ margin, const float* __restrict__ best,
    const int* __restrict__ count, const int* __restrict__ column,
    const float* __restrict__ value, int slots,
    float* score, long long* index, unsigned char* overflow)
{
    const int row = first_row + (int)blockIdx.x;
    const int matrix = blockIdx.y;
    if (row == 0 || row >= size[matrix]) return;

    const long long first = start[matrix];
    const long long at = (long long)matrix * gridDim.x + blockIdx.x;
    if (count[at] > slots) {
        if (threadIdx.x == 0) overflow[first + row] = 1;
        return;
    }
    const float threshold = best[at] - margin[first + row];
    const long long mine = original[first + row];
    float top = NONE;
    int top_column = 0;
    for (int slot = 0; slot < count[at]; ++slot) {
        if (value[at * slots + slot] < threshold) continue;  // beaten by a later tile
        const int candidate = column[at * slots + slot];
        const long long other = original[first + candidate];
        const double product = dot(x + mine * dim, x + other * dim, dim);
        const float cosine = rounded(product / sqrt(norms[mine] * norms[other]));
        __syncthreads();  // every thread has the product
        if (cosine > top || (cosine == top && candidate < top_column)) {
            top = cosine;
            top_column = candidate;
        }
    }
    if (threadIdx.x == 0) {
        score[first + row] = top;
        index[first + row] = top_column;
    }
}

// Add rows to the sums of their clusters, or subtract them (sign -1), in the order of `rows`.
//
// Grid: (clusters, blocks that cover the dimension).
//   x, dim       all rows, float32
//   rows, begin  numbers of the rows of cluster i: rows[begin[i]] to rows[begin[i + 1] - 1]
//   sums         of each cluster, dim each
__global__ void add_rows(
    const float* __restrict__ x, int dim, const long long* __restrict__ rows,
    const long long* __restrict__ begin, int sign, double* sums)
{
    const int at = blockIdx.y * blockDim.x + threadIdx.x;
    if (at >= dim) return;
    const long long cluster = blockIdx.x;
    const long long last = begin[cluster + 1];
    double sum = 0.0;
#pragma unroll 8  // many loads at once
    for (long long i = begin[cluster]; i < last; ++i) sum += widened(x[rows[i] * dim + at]);
    sums[cluster * dim + at] += sign * sum;
}

}
