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

ACC = {torch.float32: tl.float32, torch.float64: tl.float64}
CHANNELS = 64  # of a tile in channels_last: 128 bytes of bfloat16
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
_PROGRAMS_PER_PROCESSOR = 8  # programs of 4 warps that keep one streaming multiprocessor busy
MOST_SPLITS = 16  # parts of a map that are combined in one tile, without a loop


def moments(x: Tensor, order: int) -> Tensor:
    """Mean and centred variance of each channel of each image; see `recalib.ops.passes.moments`."""
    tile = Tile(x)
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
        kernels.combine[(triton.cdiv(count, 64),)](
            parts, stats, count, tile.positions, SPLITS=tile.splits, BP=tile.bp, ORDER=order, B=64, **OPTIONS
        )
    return stats


def integrate(
    x: Tensor, centre: Tensor | None, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """``act(scale * (x - centre) + shift + residual)``; see `recalib.ops.passes.integrate`."""
    tile = Tile(x, residual)
    y = torch.empty_like(x)
    operands = (x, _dense(centre), _dense(scale), _dense(shift), residual, y)
    tile.launch(kernels.integrate, tile.tiles, *operands, ACC=ACC[wide(x.dtype)], RELU=relu, SPLITS=tile.tiles)
    return y


def mask_and_reduce(
    dy: Tensor, y: Tensor | None, x: Tensor | None, centre: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor]:
    """Gradient before the ReLU, and its sums; see `recalib.ops.passes.mask_and_reduce`."""
    tile = Tile(dy, y, x)
    order = 1 + (x is not None) if sums else 0
    splits = tile.splits if sums else tile.tiles
    dm = None if y is None else torch.empty_like(dy)
    parts = dy.new_empty((splits if sums else 1, order, *dy.shape[:2]), dtype=wide(dy.dtype))
    operands = (dy, y, x if sums else None, _dense(centre), dm, parts, len(dy))
    tile.launch(kernels.mask_and_reduce, splits, *operands, ORDER=order, SPLITS=splits)
    return dm if dm is not None else dy.new_empty(0), parts[0] if len(parts) == 1 else parts.sum(0)


def differentiate(dm: Tensor, scale: Tensor, x: Tensor | None, stats: Tensor, d_stats: Tensor) -> Tensor:
    """Gradient of the map; see `recalib.ops.passes.differentiate`."""
    tile = Tile(dm, x)
    dx = torch.empty_like(dm)
    operands = (dm, _dense(scale), x, stats, _dense(d_stats), dx, len(dm))
    tile.launch(kernels.differentiate, tile.tiles, *operands, ACC=ACC[stats.dtype], ORDER=len(stats), SPLITS=tile.tiles)
    return dx


class Tile:
    """Cut of a map, from its shape, layout and device alone; other maps of the same tail are cut alike.

    A tile gives each of 128 threads four accesses of 16 bytes, or eight single values where rows are not aligned. It
    has up to 64 channels for channels_last (128 bytes of bfloat16), as many positions as it can otherwise, and the
    rest along the other dimension.
    """

    def __init__(self, x: Tensor, *others: Tensor | None) -> None:
        _, channels, h, w = x.shape
        self.x, self.channels, self.positions = x, channels, h * w
        self.channels_last = not x.is_contiguous()
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        for t in (x, *others):  # a compiler that changed the strides of one would have it read as another
            assert t is None or t.is_contiguous(memory_format=layout), "maps of a tail have one layout"
        vector = min(16 // x.element_size(), unit(channels if self.channels_last else self.positions))
        self.values = max(4 * vector, 8) * 32 * OPTIONS["num_warps"]
        self.bc, self.bp = self._cut(CHANNELS)
        self.programs = len(x) * triton.cdiv(channels, self.bc)
        self.tiles = triton.cdiv(self.positions, self.bp)
        self.wanted = wanted(x.device)

    def _cut(self, most: int) -> tuple[int, int]:
        """Channels and positions of a tile; channels_last has at most so many channels."""
        c, p = triton.next_power_of_2(self.channels), triton.next_power_of_2(self.positions)
        if self.channels_last:
            bc = min(most, c)
            return bc, min(self.values // bc, p)
        bp = min(self.values, p)
        return min(self.values // bp, c), bp

    def narrow(self) -> tuple[int, int]:
        """The same for programs that go through a whole image: fewer channels, but whole sectors of 32 bytes."""
        return self._cut(32 // self.x.element_size())

    @property
    def splits(self) -> int:
        """Parts of the positions in a reduction: as many as fill the processor, a power of two; one where half is full.

        A part may be empty. More than `MOST_SPLITS` would cost more to combine than they save.
        """
        most = min(self.wanted // max(self.programs, 1), MOST_SPLITS)
        return min(triton.next_power_of_2(self.tiles), 1 << max(most.bit_length() - 1, 0))

    @property
    def sizes(self) -> dict[str, int]:
        """Channels and positions as kernels take them: a multiple of a unit."""
        c_unit, p_unit = unit(self.channels), unit(self.positions)
        units = {"c_units": self.channels // c_unit, "p_units": self.positions // p_unit}
        return units | {"C_UNIT": c_unit, "P_UNIT": p_unit}

    def launch(self, kernel: Any, parts: int, *operands: Any, **constants: Any) -> None:
        """Run a kernel on all tiles, its operands followed by the sizes and the cut."""
        if self.programs == 0:
            return
        cut = {"CHANNELS_LAST": self.channels_last, "BC": self.bc, "BP": self.bp}
        with torch.cuda.device_of(self.x):
            kernel[(self.programs * parts,)](*operands, **self.sizes, **cut, **constants, **OPTIONS)


def unit(size: int) -> int:
    """Power of two, 16 at most, that divides a size: what lets the compiler see that rows are aligned."""
    return math.gcd(size, 16)


def wanted(device: torch.device) -> int:
    """Programs that keep a GPU busy."""
    return _PROGRAMS_PER_PROCESSOR * processors(device)


@cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; 1 for Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _dense(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()
