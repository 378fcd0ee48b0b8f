"""A pretended CUDA device: the project's CUDA source, compiled by g++, run by fibers that switch where a warp meets.

It shows that kernels and the calls around them are right; how fast they are, only a device shows.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine import backend, device
from tests.oracles.kmeans import DEVICE_MODULE, Device

COMPILER = shutil.which("g++")

_HEADER = r"""
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ucontext.h>
#include <utility>
using std::min;
#define __global__
#define __device__ static

static float __int_as_float(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
struct __half { uint16_t bits; };
static float __half2float(__half h) {
    uint32_t sign = (h.bits & 0x8000u) << 16, exponent = (h.bits >> 10) & 31, rest = h.bits & 1023;
    if (exponent == 31) return __int_as_float(sign | 0x7f800000u | (rest << 13));
    float x = exponent ? std::ldexp(float(1024 + rest), int(exponent) - 25) : std::ldexp(float(rest), -24);
    return sign ? -x : x;
}
struct __nv_bfloat16 { uint16_t bits; };
static float __bfloat162float(__nv_bfloat16 b) { return __int_as_float(uint32_t(b.bits) << 16); }
static __nv_bfloat16 __float2bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

struct Index { unsigned x, y; };
static Index blockIdx, blockDim, threadIdx;
static ucontext_t lanes[32], leader;
static char stacks[32][65536];
static bool done[32];
static uint64_t slots[2][32];  // of this meeting of the warp, and of the one before
static int meeting[32], width;
static void (*work)(void*);
static void* given;

static void lane_main() { work(given); done[threadIdx.x % 32] = true; }

static void meet() {
    int lane = threadIdx.x % 32;
    meeting[lane]++;
    swapcontext(&lanes[lane], &leader);
}
template <typename N> static N __shfl_xor_sync(unsigned, N x, int step) {
    int lane = threadIdx.x % 32, turn = meeting[lane] % 2;
    memcpy(&slots[turn][lane], &x, sizeof(N));
    meet();
    memcpy(&x, &slots[turn][lane ^ step], sizeof(N));
    return x;
}
static unsigned __ballot_sync(unsigned, bool holds) {
    int lane = threadIdx.x % 32, turn = meeting[lane] % 2;
    slots[turn][lane] = holds;
    meet();
    unsigned all = 0;
    for (int other = 0; other < 32; other++) all |= unsigned(slots[turn][other]) << other;
    return all;
}
static int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
static void atomicAdd(double* to, double x) { *to += x; }

static void launch(Index grid, unsigned threads, void (*function)(void*), void* arguments) {
    work = function;
    given = arguments;
    blockDim = {threads, 1};
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
            for (unsigned base = 0; base < threads; base += 32) {
                for (int lane = 0; lane < 32; lane++) {
                    done[lane] = false;
                    meeting[lane] = 0;
                    getcontext(&lanes[lane]);
                    lanes[lane].uc_stack.ss_sp = stacks[lane];
                    lanes[lane].uc_stack.ss_size = sizeof(stacks[lane]);
                    lanes[lane].uc_link = &leader;
                    makecontext(&lanes[lane], lane_main, 0);
                }
                for (bool left = true; left;) {
                    left = false;
                    for (int lane = 0; lane < 32; lane++)
                        if (!done[lane]) {
                            threadIdx = {base + lane, 0};
                            swapcontext(&leader, &lanes[lane]);
                            left |= !done[lane];
                        }
                }
            }
}
template <typename... P, size_t... I> static void apply(void (*f)(P...), void** a, std::index_sequence<I...>) {
    f(*static_cast<P*>(a[I])...);
}
template <typename... P> static void apply_all(void (*f)(P...), void** a) {
    apply(f, a, std::index_sequence_for<P...>());
}
"""


class RawModule:
    """As cupy's, compiled for this processor."""

    folder: Path
    """Where sources and libraries are put."""

    def __init__(self, code: str, options: Sequence[str], name_expressions: Sequence[str]) -> None:
        (called,) = name_expressions
        assert COMPILER is not None
        folder = Path(tempfile.mkdtemp(dir=self.folder))  # its own: threads compile the same kernel at the same time
        for header in ("cuda_fp16.h", "cuda_bf16.h"):
            (folder / header).write_text("#pragma once\n" + _HEADER if "fp16" in header else "")
        name = "".join(c if c.isalnum() else "_" for c in called)
        source, library = folder / f"{name}.cpp", folder / f"{name}.so"
        source.write_text(
            f"{code}\nstatic void start(void* a) {{ apply_all({called}, static_cast<void**>(a)); }}\n"
            'extern "C" void run(unsigned x, unsigned y, unsigned threads, void** a) {\n'
            "    launch({x, y}, threads, start, a);\n}\n"
        )
        command = [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{folder}", source, "-o", library]
        subprocess.run([str(part) for part in command], check=True)
        self._run = ctypes.PyDLL(str(library)).run  # keeps other threads out
        self._called = called

    def get_function(self, called: str) -> Any:
        """The kernel, called with grid, threads and arguments."""
        assert called == self._called
        return self._start

    def _start(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any]) -> None:
        kept = [_argument(value) for value in arguments]
        places = (ctypes.c_void_p * len(kept))(*[value.ctypes.data for value in kept])
        self._run(grid[0], grid[1] if len(grid) > 1 else 1, block[0], places)


def _argument(value: Any) -> NDArray[Any]:
    """The bytes of an argument: of arrays their address, which must lie on the device."""
    if isinstance(value, np.ndarray):
        if not isinstance(value, Device) or not value.flags.c_contiguous:
            raise TypeError("a kernel was given a host array, or one with gaps")
        return np.array([value.ctypes.data])
    if isinstance(value, int):
        return np.array([value], np.int64)
    assert isinstance(value, np.generic)
    return np.array([value])


def _mm(rows: torch.Tensor, columns: torch.Tensor, out_dtype: Any = torch.float32) -> torch.Tensor:
    return rows.float() @ columns.float()


CUPY: Any = SimpleNamespace(
    RawModule=RawModule,
    asnumpy=lambda values: np.array(values.view(np.ndarray)) if isinstance(values, Device) else np.asarray(values),
    asarray=lambda values: np.array(values).view(Device),
    get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0),
)
"""What of cupy the project uses, for arrays that must not meet those of the host."""

for _name in (
    "abs", "arange", "argsort", "ascontiguousarray", "bincount", "cumsum", "einsum", "empty", "flatnonzero", "full",
    "matmul", "maximum", "minimum", "ones", "searchsorted", "sqrt", "where", "zeros",
):  # fmt: skip
    setattr(CUPY, _name, getattr(DEVICE_MODULE, _name))

TORCH: Any = SimpleNamespace(
    bfloat16=torch.bfloat16,
    float32=torch.float32,
    empty=lambda shape, dtype, device: torch.empty(shape, dtype=dtype),
    mm=_mm,
    cuda=SimpleNamespace(
        get_device_capability=lambda: (9, 0),
        synchronize=lambda: None,
        mem_get_info=lambda: (2**33, 2**34),
        memory_reserved=lambda: 0,
        memory_allocated=lambda: 0,
    ),
)
"""What of torch the device's products use, on the CPU."""


def pretend(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let clustering run on the pretended device."""
    patch.setattr(RawModule, "folder", folder, raising=False)
    patch.setattr(device, "_cupy", lambda: CUPY)
    patch.setattr(device, "torch", TORCH)
    patch.setattr(device, "_kernel", cache(device._kernel.__wrapped__))
    patch.setattr(device, "products", cache(device.products.__wrapped__))
    patch.setattr(backend, "array_module", lambda: CUPY)
    patch.setattr(backend, "kernels", lambda: device)
