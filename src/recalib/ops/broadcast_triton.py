"""The wider law's passes as Triton kernels; the same functions as `recalib.ops.broadcast_torch`.

Parts of sums and of maxima, a small share of the map, are combined by torch's own reductions.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from recalib.ops import broadcast_kernels as kernels
from recalib.ops import broadcast_torch, passes_triton
from recalib.ops.broadcast_law import AXES, MAXIMA, Law, Maximum, Read

_VALUES = 2048  # of a tile: 16 a thread, for kernels that hold several accumulators
_CHANNELS = 64  # of a tile in channels_last, and where a pixel's channels are reduced
_LONGEST = 1024  # columns of a map whose lines have statistics or gates
_KINDS = ("channel", "row", "column", "pixel")
_LINES = ("row", "column")


def serves(x: Tensor, law: Law | None) -> bool:
    """True if there are kernels for a map, and for these gates: one factor of a kind at most."""
    fits = x.dtype in (torch.float32, torch.bfloat16, torch.float16) and x.shape[3] <= _LONGEST
    fits = fits and x.shape[1:].numel() < 2**31 and x.numel() > 0 and _is_dense(x)
    kinds = [] if law is None else [_kind(factor, x) for factor in law.factors]
    return fits and len(kinds) == len(set(kinds)) and "other" not in kinds


def observe(
    x: Tensor, scale: Tensor | None, reads: Sequence[str], weights: Tensor | None = None
) -> dict[str, Tensor | Maximum]:
    """Statistics by name; see `recalib.ops.broadcast_torch.observe`."""
    if all(name in ("mean", "variance") for name in reads):
        moments = passes_triton.moments(x, 1 + ("variance" in reads))
        return dict(zip(("mean", "variance"), moments.unbind(), strict=False))
    if all(name.startswith("pixel_") for name in reads):
        return _of_pixels(x, scale, reads)
    assert scale is None
    box = _Box(x, lines=any(name.startswith(_LINES) for name in reads), pixels=_any(reads, "pixel"))
    N, C, H, W = x.shape
    shapes = {
        "row": (N, C, H), "column": (box.splits, N, C, W), "pixel": (box.blocks, N, H, W), "": (box.splits, N, C)
    }  # fmt: skip
    squares = "variance" in reads
    out: dict[str, Tensor] = {}
    for name in reads:
        kind = name.rpartition("_")[0] if name in AXES else ""
        out[name] = x.new_empty(shapes[kind], dtype=torch.int64 if name in MAXIMA else torch.float32)
    if squares or "mean" in reads:
        out["mean"] = x.new_empty((4 if squares else 1, *shapes[""]), dtype=torch.float32)
    names = [f"{kind}{what}" for kind in ("row", "column", "pixel") for what in ("_mean", "_maximum")]
    operands = (out.get("mean"), out.get("maximum"), *(out.get(name) for name in names))
    box.launch(
        kernels.observe, box.splits, x, *operands, weights, out.get("weighted_sum"), N, SQUARES=squares,
        SPLITS=box.splits,
    )  # fmt: skip
    found: dict[str, Tensor | Maximum] = {}
    for name, parts in out.items():
        whole = parts if name.startswith("row_") else None
        if name in MAXIMA:
            found[name] = _unpacked(parts.amax(0) if whole is None else whole)
        elif name in AXES:
            found[name] = (parts.sum(0) if whole is None else whole) / x.shape[AXES[name]]
        elif name == "weighted_sum":
            found[name] = parts.sum(0)
    if squares:
        found["mean"], found["variance"] = _moments(out["mean"], H * W)
    elif "mean" in out:
        found["mean"] = out["mean"][0].sum(0) / (H * W)
    return found


def _any(reads: Sequence[str], kind: str) -> bool:
    return any(name.startswith(kind) for name in reads)


def _of_pixels(x: Tensor, scale: Tensor | None, reads: Sequence[str]) -> dict[str, Tensor | Maximum]:
    box = _Box(x, lines=False, pixels=True)
    N, C, H, W = x.shape
    pixel = x.new_empty((N, H, W), dtype=torch.float32) if "pixel_mean" in reads else None
    peak = x.new_empty((N, H, W), dtype=torch.int64) if "pixel_maximum" in reads else None
    with torch.cuda.device_of(x):
        kernels.observe_pixels[(N * triton.cdiv(H * W, box.bw),)](
            x, scale, pixel, peak, **box.sizes, CHANNELS_LAST=box.channels_last, BC=box.bc, BW=box.bw,
            **passes_triton.OPTIONS,
        )  # fmt: skip
    found: dict[str, Tensor | Maximum] = {} if pixel is None else {"pixel_mean": pixel / C}
    return found if peak is None else found | {"pixel_maximum": _unpacked(peak)}


def _moments(parts: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean and variance from each part's sums around its pivot, squares, pivot and count (Chan et al. 1979)."""
    sums, squares, pivots, counts = parts
    offsets = sums / counts.clamp(min=1)
    means, centred = pivots + offsets, squares - sums * offsets
    mean = (means * counts).sum(0) / size
    return mean, (centred.clamp(min=0) + counts * (means - mean).square()).sum(0) / size


def _unpacked(packed: Tensor) -> Maximum:
    """Values and places from integers of 64 bits; see `broadcast_kernels.keyed`."""
    high = (packed >> 32).to(torch.int32)
    values = (high ^ ((high >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return Maximum(values, 0x7FFFFFFF - (packed & 0xFFFFFFFF))


def apply(x: Tensor, law: Law) -> Tensor:
    """``x * (w * G + b)``."""
    box, y = _Box.of(x, law), torch.empty_like(x)
    box.launch(kernels.apply, box.tiles, x, y, *_operands(x, law), law.offset, COUNT=_count(law), SPLITS=box.tiles)
    return y


def reduce(dy: Tensor, x: Tensor, law: Law) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients of the factors (or of slope and centre), and of the blend."""
    box, dy = _Box.of(x, law), _laid_out(dy, x)
    N, C, H, W = x.shape
    shapes = {
        "channel": (box.splits, N, C), "row": (1, N, C, H), "column": (box.splits, N, C, W),
        "pixel": (box.blocks, N, H, W),
    }  # fmt: skip
    kinds = ["channel"] if law.slope is not None else [_kind(factor, x) for factor in law.factors]
    out = {kind: x.new_empty(shapes[kind], dtype=torch.float32) for kind in kinds}
    more = int(law.slope is not None), int(law.weight is not None), int(law.weight is not None)
    centre, d_weight, d_bias = (x.new_empty(shapes["channel"], dtype=torch.float32) if m else None for m in more)
    factors, slope, middle, weight, _ = _operands(x, law)
    box.launch(
        kernels.reduce, box.splits, dy, x, factors, slope, middle, weight, law.offset,
        *(out.get(kind) for kind in _KINDS), centre, d_weight, d_bias, N, COUNT=_count(law), SPLITS=box.splits,
    )  # fmt: skip
    sums = [d.sum(0) for d in out.values()] + ([] if centre is None else [centre.sum(0)])
    small = [law.slope, law.centre] if law.slope is not None else list(law.factors)
    gradients = [d.view(t.shape) for d, t in zip(sums, small, strict=True) if t is not None]
    return (
        gradients,
        None if d_weight is None else d_weight.sum((0, 1)),
        None if d_bias is None else d_bias.sum((0, 1)),
    )


def unscale(x: Tensor, read: Read) -> Tensor:
    """Gradient (N, C) of a read's scale."""
    box = _Box(x, lines=False, pixels=False)
    d_scale = x.new_empty((box.splits, *x.shape[:2]), dtype=torch.float32)
    d_mean, (d_peak, where) = _dense(read.gradients.get("pixel_mean")), _peak(read, "pixel_maximum")
    with torch.cuda.device_of(x):
        kernels.unscale[(len(x) * box.blocks * box.splits,)](
            x, d_mean, d_peak, where, d_scale, len(x), **box.sizes, CHANNELS_LAST=box.channels_last,
            SPLITS=box.splits, BC=box.bc, BW=box.bw, **passes_triton.OPTIONS,
        )  # fmt: skip
    return d_scale.sum(0)


def differentiate(dy: Tensor, x: Tensor, law: Law, reads: Sequence[Read]) -> Tensor:
    """Gradient of the map: through the product, and through everything that was read."""
    if sum(_any(list(read.gradients), "pixel_") for read in reads) > 1:
        return broadcast_torch.differentiate(dy, x, law, reads)
    together: dict[str, Tensor] = {}
    for read in reads:  # a second step reads pixels only
        together |= read.gradients
    names = list(together)
    box = _Box.of(x, law, lines=any(name.startswith(_LINES) for name in names))
    dx, dy = torch.empty_like(x), _laid_out(dy, x)
    by_name = {name: read for read in reads for name in read.gradients}

    def pair(name: str) -> tuple[Tensor | None, Tensor | None]:
        return _peak(by_name[name], name) if name in by_name else (None, None)

    def line(kind: str) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return _dense(together.get(f"{kind}_mean")), *pair(f"{kind}_maximum")

    mean = by_name["variance"].found["mean"] if "variance" in by_name else None
    assert mean is None or isinstance(mean, Tensor)
    moments = _dense(together.get("mean")), _dense(together.get("variance")), mean
    pixels = next((by_name[name] for name in names if name.startswith("pixel_")), None)
    weighted = (
        _dense(together.get("weighted_sum")),
        by_name["weighted_sum"].weights if "weighted_sum" in names else None,
    )
    box.launch(
        kernels.differentiate, box.tiles, dy, x, dx, *_operands(x, law), law.offset, moments, pair("maximum"),
        line("row"), line("column"), line("pixel"), None if pixels is None else pixels.scale, weighted,
        COUNT=_count(law), SPLITS=box.tiles,
    )  # fmt: skip
    return dx


class _Box:
    """Tiles of channels, rows and columns of a map.

    Args:
        x: the map.
        lines: whether rows or columns matter; without, all positions are one row.
        pixels: whether a pixel's channels are reduced, so that a tile should have many.
    """

    def __init__(self, x: Tensor, lines: bool, pixels: bool) -> None:
        N, C, H, W = x.shape
        self.x, self.channels_last = x, not x.is_contiguous()
        self.rows, self.columns = (H, W) if lines else (1, H * W)
        c, h, w = (triton.next_power_of_2(size) for size in (C, self.rows, self.columns))
        if self.channels_last or pixels:
            self.bc = min(_CHANNELS, c, _VALUES // w if lines else c)
            self.bw = w if lines else min(_VALUES // self.bc, w)
            self.bh = min(_VALUES // (self.bc * self.bw), h)
        else:
            self.bw = w if lines else min(_VALUES, w)
            self.bh = min(_VALUES // self.bw, h)
            self.bc = min(_VALUES // (self.bw * self.bh), c)
        self.blocks = triton.cdiv(C, self.bc)
        self.tiles = triton.cdiv(self.rows, self.bh) * triton.cdiv(self.columns, self.bw)
        wanted = passes_triton.wanted(x.device) // (N * self.blocks)
        self.splits = max(min(wanted, passes_triton.MOST_SPLITS, self.tiles), 1)
        units = passes_triton.unit(C), passes_triton.unit(self.columns)
        self.sizes = {"c_units": C // units[0], "w_units": self.columns // units[1]}
        self.sizes |= {"C_UNIT": units[0], "W_UNIT": units[1]}

    @classmethod
    def of(cls, x: Tensor, law: Law, lines: bool = False) -> "_Box":
        """For the gates of a law."""
        kinds = [_kind(factor, x) for factor in law.factors]
        return cls(x, lines or any(kind in _LINES for kind in kinds), "pixel" in kinds)

    def launch(self, kernel: Any, parts: int, *operands: Any, **constants: Any) -> None:
        """Run a kernel on all tiles, its operands followed by the sizes and the cut."""
        cut = {"CHANNELS_LAST": self.channels_last, "BC": self.bc, "BH": self.bh, "BW": self.bw}
        with torch.cuda.device_of(self.x):
            kernel[(len(self.x) * self.blocks * parts,)](
                *operands, H=self.rows, **self.sizes, **cut, **constants, **passes_triton.OPTIONS
            )


def _kind(factor: Tensor, x: Tensor) -> str:
    """The axes that a factor is broadcast from; where two would do, either is right."""
    N, C, H, W = x.shape
    shapes = {"channel": (N, C, 1, 1), "pixel": (N, 1, H, W), "row": (N, C, H, 1), "column": (N, C, 1, W)}
    return next((kind for kind, shape in shapes.items() if factor.shape == shape), "other")


def _operands(x: Tensor, law: Law) -> tuple[Any, ...]:
    """Factors by kind, slope, centre, and the blend, as kernels take them."""
    kinds = {_kind(factor, x): _dense(factor) for factor in law.factors}
    factors = tuple(kinds.get(kind) for kind in _KINDS)
    return factors, _dense(law.slope), _dense(law.centre), _dense(law.weight), _dense(law.bias)


def _count(law: Law) -> int:
    return len(law.factors) if law.mean else 0


def _peak(read: Read, name: str) -> tuple[Tensor | None, Tensor | None]:
    if name not in read.gradients:
        return None, None
    found = read.found[name]
    assert isinstance(found, Maximum)
    return _dense(read.gradients[name]), _dense(found.indices)


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _laid_out(dy: Tensor, x: Tensor) -> Tensor:
    return dy.contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else torch.channels_last)


def _dense(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()
