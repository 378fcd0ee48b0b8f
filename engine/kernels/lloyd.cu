// A pass of Lloyd's algorithm after its matrix product, and what goes with it; started by engine/device.py.
// One warp works on one row; `add` has one thread a column.

#include <cuda_fp16.h>
#include <cuda_bf16.h>

#define INFINITE __int_as_float(0x7f800000)  // without <math.h>, which the run-time compiler does not have

__device__ double wide(__half x) { return __half2float(x); }
__device__ double wide(float x) { return x; }
__device__ double wide(double x) { return x; }
__device__ float less(__half x, float mean) { return __half2float(x) - mean; }
__device__ float less(float x, float mean) { return x - mean; }
__device__ float less(double x, float mean) { return float(x - double(mean)); }
__device__ float back(float x) { return x; }
__device__ float back(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void round_to(float x, float* out) { *out = x; }
__device__ void round_to(float x, __nv_bfloat16* out) { *out = __float2bfloat16(x); }

template <typename N> __device__ N summed(N x) {  // over a warp; the same bits in every lane
    for (int step = 16; step; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__device__ long long own_row() { return (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32; }

template <typename T, typename L>
__global__ void centre(const T* values, const float* mean, long long rows, int hidden, float up, float tiny,
                       L* low, float* norm, float* lost) {
    long long row = own_row();
    if (row >= rows) return;
    float kept = 0, gone = 0;
    for (int at = threadIdx.x % 32; at < hidden; at += 32) {
        float x = less(values[row * hidden + at], mean[at]);
        L rounded;
        round_to(x, &rounded);
        low[row * hidden + at] = rounded;
        float gap = x - back(rounded);
        kept += x * x;
        gone += gap * gap;
    }
    kept = summed(kept);
    gone = summed(gone);
    if (threadIdx.x % 32 == 0) {
        norm[row] = sqrtf(kept) * up + tiny;
        lost[row] = sqrtf(gone) * up + tiny;
    }
}

template <typename T> __device__ double gap_to(const T* value, const double* centroid, int hidden) {
    double sum = 0;
    for (int at = threadIdx.x % 32; at < hidden; at += 32) {
        double gap = wide(value[at]) - centroid[at];
        sum += gap * gap;
    }
    return summed(sum);
}

template <typename T>
__global__ void nearest(const float* scores, const float* half, const T* values, const double* exact, long long rows,
                        int k, int hidden, const float* norm, const float* lost, float by_lost, float by_norm,
                        float by_square, float constant, int* label) {
    long long row = own_row();
    if (row >= rows) return;
    int lane = threadIdx.x % 32, first = lane;
    const float* score = scores + row * k;
    float top = -INFINITE, second = -INFINITE;
    for (int c = lane; c < k; c += 32) {
        float s = score[c] - half[c];
        if (s > top) { second = top; top = s; first = c; }
        else if (!(s <= second)) second = s;
    }
    for (int step = 16; step; step /= 2) {
        float other = __shfl_xor_sync(~0u, top, step), next = __shfl_xor_sync(~0u, second, step);
        int at = __shfl_xor_sync(~0u, first, step);
        if (other > top || (other == top && at < first)) { second = fmaxf(top, next); top = other; first = at; }
        else second = fmaxf(second, other);
    }
    float error = lost[row] * by_lost + norm[row] * by_norm + norm[row] * norm[row] * by_square + constant;
    float least = top - 2 * error;
    if (!(second < least)) {  // also where an error is not finite
        double best = INFINITE;
        for (int base = 0; base < k; base += 32) {
            int c = base + lane;
            unsigned near = __ballot_sync(~0u, c < k && !(score[c] - half[c] < least));
            for (; near; near &= near - 1) {
                int candidate = base + __ffs(near) - 1;
                double squared = gap_to(values + row * hidden, exact + (long long)candidate * hidden, hidden);
                if (squared < best) { best = squared; first = candidate; }
            }
        }
    }
    if (lane == 0) label[row] = first;
}

template <typename T>
__global__ void distances(const T* values, const double* exact, const int* label, long long rows, int hidden,
                          double* squared) {
    long long row = own_row();
    if (row >= rows) return;
    double found = gap_to(values + row * hidden, exact + (long long)label[row] * hidden, hidden);
    if (threadIdx.x % 32 == 0) squared[row] = found;
}

template <typename T>
__global__ void add(const T* values, const long long* at, const int* label, long long rows, int each, int hidden,
                    double unit, double sign, double* sums) {  // labels increase
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= hidden) return;
    long long start = blockIdx.x * (long long)each, stop = min(start + each, rows);
    double sum = 0;
    int now = label[start];
    for (long long row = start; row < stop; row++) {
        if (label[row] != now) {
            atomicAdd(&sums[(long long)now * hidden + column], sign * sum);
            sum = 0;
            now = label[row];
        }
        double x = wide(values[at[row] * hidden + column]);
        sum += unit > 0 ? rint(x / unit) * unit : x;
    }
    atomicAdd(&sums[(long long)now * hidden + column], sign * sum);
}
