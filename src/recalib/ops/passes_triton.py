"""The passes over the activation as Triton kernels; the same functions as `recalib.ops.passes_torch`.

Results are reproducible: where images and channels alone do not fill the processor, the positions are split and the
parts combined in a second, small step, without atomics. All passes are bound by memory, so a tile is as large as it
takes for every thread to have several 16-byte accesses under way.
"""

import math
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recalib.ops import triton_kernels as kernels
from recalib.ops.contract import wide

_ACC = {torch.float32: tl.float32, torch.float64: tl.float64}
_WARPS = 4
_OPTIONS = {"num_warps": _WARPS, "enable_fp_fusion": True}
_PROGRAMS_PER_PROCESSOR = 8  # programs of 4 warps that keep one streaming multiprocessor busy


def moments(x: Tensor, order: int) -> Tensor:
    """Mean and centred variance of each channel of each image; see `recalib.ops.passes.moments`."""
    tile = _Tile(x)
    stats = x.new_empty((order, *x.shape[:2]), dtype=wide(x.dtype))
    if stats.numel() == 0:
        return stats
    if tile.splits == 1:
        tile.launch(kernels.moments, tile.splits, x, stats, len(x), ORDER=order, SPLITS=1)
        return stats
    parts = stats.new_empty((tile.splits, *stats.shape))
    tile.launch(kernels.moments, tile.splits, x, parts, len(x), ORDER=order, SPLITS=tile.splits)
    count = stats[0].numel()
    with torch.cuda.device_of(x):
        kernels.combine[(triton.cdiv(count, 256),)](
            parts, stats, count, tile.positions, SPLITS=tile.splits, BP=tile.bp, ORDER=order, B=256, **_OPTIONS
        )
    return stats


def integrate(
    x: Tensor, centre: Tensor | None, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """``act(scale * (x - centre) + shift + residual)``; see `recalib.ops.passes.integrate`."""
    tile = _Tile(x)
    y = torch.empty_like(x)
    operands = (x, _dense(centre), _dense(scale), _dense(shift), residual, y)
    tile.launch(kernels.integrate, tile.tiles, *operands, ACC=_ACC[wide(x.dtype)], RELU=relu, SPLITS=tile.tiles)
    return y


def mask_and_reduce(
    dy: Tensor, y: Tensor | None, x: Tensor | None, centre: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor]:
    """Gradient before the ReLU, and its sums; see `recalib.ops.passes.mask_and_reduce`."""
    tile = _Tile(dy)
    order = 1 + (x is not None) if sums else 0
    splits = tile.splits if sums else tile.tiles
    dm = None if y is None else torch.empty_like(dy)
    parts = dy.new_empty((splits if sums else 1, order, *dy.shape[:2]), dtype=wide(dy.dtype))
    operands = (dy, y, x if sums else None, _dense(centre), dm, parts, len(dy))
    tile.launch(kernels.mask_and_reduce, splits, *operands, ORDER=order, SPLITS=splits)
    return dm if dm is not None else dy.new_empty(0), parts[0] if len(parts) == 1 else parts.sum(0)


def differentiate(dm: Tensor, scale: Tensor, x: Tensor | None, stats: Tensor, d_stats: Tensor) -> Tensor:
    """Gradient of the map; see `recalib.ops.passes.differentiate`."""
    tile = _Tile(dm)
    dx = torch.empty_like(dm)
    operands = (dm, _dense(scale), x, stats, _dense(d_stats), dx, len(dm))
    tile.launch(
        kernels.differentiate, tile.tiles, *operands, ACC=_ACC[stats.dtype], ORDER=len(stats), SPLITS=tile.tiles
    )
    return dx


class _Tile:
    """How a map is cut, from its shape, layout and device alone.

    A tile gives each of 128 threads four accesses of 16 bytes, or eight single values where rows are not aligned. It
    has up to 64 channels for channels_last (128 bytes of bfloat16), as many positions as it can otherwise, and the
    rest along the other dimension.
    """

    def __init__(self, x: Tensor) -> None:
        _, channels, h, w = x.shape
        self.x, self.positions = x, h * w
        self.channels_last = not x.is_contiguous()
        vector = min(16 // x.element_size(), _unit(channels if self.channels_last else self.positions))
        size = max(4 * vector, 8) * 32 * _WARPS
        if self.channels_last:
            self.bc = min(64, triton.next_power_of_2(channels))
            self.bp = min(size // self.bc, triton.next_power_of_2(self.positions))
        else:
            self.bp = min(size, triton.next_power_of_2(self.positions))
            self.bc = min(size // self.bp, triton.next_power_of_2(channels))
        self.programs = len(x) * triton.cdiv(channels, self.bc)
        self.tiles = triton.cdiv(self.positions, self.bp)

    @property
    def splits(self) -> int:
        """Parts of the positions in a reduction: one, or as many as it takes to fill the processor."""
        wanted = _PROGRAMS_PER_PROCESSOR * processors(self.x.device)
        return min(self.tiles, triton.next_power_of_2(triton.cdiv(wanted, max(self.programs, 1))))

    def launch(self, kernel: Any, parts: int, *operands: Any, **constants: Any) -> None:
        """Run a kernel on all tiles, its operands followed by the sizes and the cut."""
        if self.programs == 0:
            return
        channels = self.x.shape[1]
        c_unit, p_unit = _unit(channels), _unit(self.positions)
        cut = {"CHANNELS_LAST": self.channels_last, "BC": self.bc, "BP": self.bp}
        with torch.cuda.device_of(self.x):
            kernel[(self.programs * parts,)](
                *operands,
                channels // c_unit,
                self.positions // p_unit,
                C_UNIT=c_unit,
                P_UNIT=p_unit,
                **cut,
                **constants,
                **_OPTIONS,
            )


def _unit(size: int) -> int:
    """Power of two, 16 at most, that divides a size: what lets the compiler see that rows are aligned."""
    return math.gcd(size, 16)


@cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; 1 for Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _dense(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()
