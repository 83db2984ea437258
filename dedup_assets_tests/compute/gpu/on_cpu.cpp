// The kernels with plain entry points, for ctypes.

#include "on_cpu.h"

#include "kernels_on_cpu.cu"

extern "C" {

void run_widen(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* x, double* y, long long n)
{
    run_without_barriers(grid_x, grid_y, threads, [&] { widen(x, y, n); });
}

void run_narrow(
    unsigned grid_x, unsigned grid_y, unsigned threads, const double* x, float* y, long long n)
{
    run_without_barriers(grid_x, grid_y, threads, [&] { narrow(x, y, n); });
}

void run_square(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* x, int dim, double* norms)
{
    run_kernel(grid_x, grid_y, threads, [&] { square(x, dim, norms); });
}

void run_halve(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* x, int dim,
    const long long* original, unsigned short* half, int padded, float* residual)
{
    run_kernel(grid_x, grid_y, threads, [&] { halve(x, dim, original, half, padded, residual); });
}

void run_screen(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* product,
    long long matrix_stride, long long row_stride, int first_row, int first_column, int columns,
    const long long* start, const long long* size, const float* margin, float* best, int* count,
    int* column, float* value, int slots)
{
    run_kernel(grid_x, grid_y, threads, [&] {
        screen(product, matrix_stride, row_stride, first_row, first_column, columns, start, size,
               margin, best, count, column, value, slots);
    });
}

void run_rescore(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* x, int dim,
    const double* norms, const long long* original, int first_row, const long long* start,
    const long long* size, const float* margin, const float* best, const int* count,
    const int* column, const float* value, int slots, float* score, long long* index,
    unsigned char* overflow)
{
    run_kernel(grid_x, grid_y, threads, [&] {
        rescore(x, dim, norms, original, first_row, start, size, margin, best, count, column,
               value, slots, score, index, overflow);
    });
}

void run_add_rows(
    unsigned grid_x, unsigned grid_y, unsigned threads, const float* x, int dim,
    const long long* rows, const long long* begin, int sign, double* sums)
{
    run_without_barriers(
        grid_x, grid_y, threads, [&] { add_rows(x, dim, rows, begin, sign, sums); });
}

}
