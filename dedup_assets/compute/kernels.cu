// Kernels of compute.device_search. A block of threads serves one row of one matrix of products;
// `row` counts within a cluster, `start` maps it to the arrays of all rows.

#define NONE __int_as_float(0xff800000)  // minus infinity

extern "C" {

// Raise the best product of each row by one tile of products, and list the columns that may still
// be the best: those within `margin` of it. Only columns before the row count.
//
// Grid: (rows of a matrix, matrices). Block: whole warps.
//   product      products of rows first_row.. and columns first_column..: matrix after matrix
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
    const int row = first_row + (int)blockIdx.x;
    const int matrix = blockIdx.y;
    const int end = min(columns, row - first_column);
    if (row >= size[matrix] || end <= 0) return;

    const float* __restrict__ values =
        product + matrix * matrix_stride + blockIdx.x * row_stride;
    float top = NONE;
    for (int c = threadIdx.x; c < end; c += blockDim.x) top = fmaxf(top, values[c]);
    for (int lane = 16; lane > 0; lane /= 2)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lane));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = top;
    __syncthreads();
    for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) top = fmaxf(top, partial[warp]);

    const long long at = (long long)matrix * gridDim.x + blockIdx.x;
    const float highest = fmaxf(top, best[at]);
    const float threshold = highest - margin[start[matrix] + row];
    __syncthreads();  // every thread has read best[at]
    if (threadIdx.x == 0) best[at] = highest;
    if (top < threshold) return;
    for (int c = threadIdx.x; c < end; c += blockDim.x) {
        if (values[c] < threshold) continue;
        const int slot = atomicAdd(&count[at], 1);
        if (slot < slots) {
            column[at * slots + slot] = first_column + c;
            value[at * slots + slot] = values[c];
        }
    }
}

// Score the listed columns of each row in float64, in the order of summation of compute.exact, and
// keep the highest score and the earliest column that attains it. A row with more candidates than
// slots is marked as crowded instead.
//
// Grid and block as for `screen`. Dynamic shared memory: dim doubles.
//   x, dim       all rows, float32; original: of each distinct row its number in x
//   norms        squared lengths of the rows of x
//   score, index, crowded  results for each distinct row; index counts within the cluster
__global__ void settle(
    const float* __restrict__ x, int dim, const double* __restrict__ norms,
    const long long* __restrict__ original, int first_row,
    const long long* __restrict__ start, const long long* __restrict__ size,
    const float* __restrict__ margin, const float* __restrict__ best,
    const int* __restrict__ count, const int* __restrict__ column,
    const float* __restrict__ value, int slots,
    float* score, long long* index, unsigned char* crowded)
{
    extern __shared__ double terms[];
    const int row = first_row + (int)blockIdx.x;
    const int matrix = blockIdx.y;
    if (row == 0 || row >= size[matrix]) return;

    const long long first = start[matrix];
    const long long at = (long long)matrix * gridDim.x + blockIdx.x;
    if (count[at] > slots) {
        if (threadIdx.x == 0) crowded[first + row] = 1;
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
        for (int i = threadIdx.x; i < dim; i += blockDim.x)
            terms[i] = (double)x[mine * dim + i] * (double)x[other * dim + i];
        __syncthreads();
        for (int width = dim; width > 1;) {
            const int half = (width + 1) / 2;
            for (int i = threadIdx.x; i < width - half; i += blockDim.x)
                terms[i] += terms[half + i];
            __syncthreads();
            width = half;
        }
        const float cosine = (float)(terms[0] / sqrt(norms[mine] * norms[other]));
        __syncthreads();  // every thread has read terms[0]
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

}
