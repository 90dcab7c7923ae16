"""Launches of a tail at inference, in Triton's kernels; `recalib.ops.plans` remembers them.

small maps, a gate that looks at no other channel     whole
otherwise                                             moments -> [hidden ->] tail
many programs, a gate that looks at all channels      moments -> [hidden ->] gate -> integrate
no gate                                               tail
"""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor, nn
from triton.runtime import driver

from recalib.errors import RecalibError
from recalib.ops import gates_triton as kernels
from recalib.ops import triton_kernels
from recalib.ops.contract import wide
from recalib.ops.gates import Kernel, kernel_of
from recalib.ops.norm import uses_batch_statistics
from recalib.ops.passes_triton import ACC, OPTIONS, Tile

# estimated, not measured
_SMALL = 256  # positions up to which a program goes through a map alone
_WAVES = 2  # programs over those that fill a processor, from which on a gate has a launch of its own
_MOST_PRODUCTS = 2**22  # weights of hidden layers times images, above which a library's matrix products are quicker
_ROWS = 4  # hidden units a program
_AT_ONCE = 2048  # moments that a program has under way

_SLOTS = ("x", "residual", "y", "parts", "hidden", "scale", "shift")  # operands that change from call to call
_ALIGNED = 4  # values of scratch that are a multiple of 16 bytes


class _Gate(NamedTuple):
    """A gate as its kernels want it.

    Attributes:
        function: of `gates_triton`.
        given: its tensors.
        numbers: what else it computes with.
        shape: what its code depends on.
        reach: whose moments it looks at: of its own channel, of its neighbours, or of all.
        first: weight and bias of a first layer, and the layer that assigns branches.
        hidden: units of that first layer, and branches.
    """

    function: Any
    given: tuple[Tensor | None, ...] = ()
    numbers: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    reach: str = "own"
    first: tuple[Tensor | None, ...] = ()
    hidden: tuple[int, int] = (0, 0)


def plan(x: Tensor, norm: nn.Module | None, gate: Any, residual: Tensor | None, relu: bool) -> "Launches | None":
    """Launches of a tail; None where operators have to do it.

    Args:
        x: map (N, C, H, W), not empty.
        norm: affine, see `recalib.ops.norm.is_affine`; or None.
        gate: a gate on moments, or None.
        residual: the shortcut, or None.
        relu: whether to end in a ReLU.
    """
    kernel = None if gate is None else kernel_of(gate, x.shape[2] * x.shape[3])
    if (gate is not None and kernel is None) or uses_batch_statistics(norm) or not _is_laid_out(x, residual):
        return None
    tile = Tile(x)
    law = _Gate(kernels.nothing) if kernel is None else _GATES[kernel.name](kernel, tile)
    if len(x) * sum(law.hidden) * x.shape[1] > _MOST_PRODUCTS:
        return None
    blend = getattr(gate, "blend", None)
    operands = {
        "norm": tuple(getattr(norm, name, None) for name in ("running_mean", "running_var", "weight", "bias")),
        "eps": getattr(norm, "eps", 0.0),
        "given": law.given,
        "numbers": law.numbers,
        "blend": (None, None) if blend is None else (blend.weight, blend.bias),
        "GATE": law.function,
        "SHAPE": law.shape,
        "ORDER": 0 if gate is None else 1 + gate.needs_variance,
        "RELU": relu,
    }
    read = [t for t in (*operands["norm"], *law.given, *law.first, *operands["blend"]) if t is not None]
    if not all(t.is_contiguous() and t.device == x.device for t in read):
        return None
    return Launches(list(_steps(x, tile, law, operands)), read, x)


def _is_laid_out(x: Tensor, residual: Tensor | None) -> bool:
    """True if both maps are dense in one of the two layouts, and their offsets fit the kernels' integers."""
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    in_range = x.shape[0] * x.shape[1] < 2**30 and x.shape[1:].numel() < 2**31
    return in_range and all(
        t.shape == x.shape and t.dtype == x.dtype and t.device == x.device and t.is_contiguous(memory_format=layout)
        for t in (x, x if residual is None else residual)
    )


def _steps(x: Tensor, tile: Tile, law: _Gate, operands: dict[str, Any]) -> Iterator["_Step"]:
    images, channels, order = x.shape[0], x.shape[1], operands["ORDER"]
    values = images * channels
    maps = {**operands, **tile.sizes, "N": images, "ACC": ACC[wide(x.dtype)], "CHANNELS_LAST": tile.channels_last}
    maps |= {"SPLITS": tile.splits, "TILES": tile.tiles, "BC": tile.bc, "BP": tile.bp}
    small = {**maps, "C": channels, "P": tile.positions}
    if order > 0 and law.reach == "own" and tile.positions <= _SMALL:
        bc, bp = tile.narrow()
        yield _Step(kernels.whole, images * triton.cdiv(channels, bc), maps | {"BC": bc, "BP": bp})
        return
    if order > 0:
        yield _Step(triton_kernels.moments, tile.programs * tile.splits, maps, parts=tile.splits * order * values)
    if law.first:
        units = sum(law.hidden)
        layer: dict[str, Any] = dict(zip(("first", "first_bias", "assign"), law.first, strict=True))
        layer |= {"H": law.hidden[0], "BRANCHES": law.hidden[1], "BH": _ROWS, "BK": _channels_at_once(tile)}
        yield _Step(kernels.hidden, images * triton.cdiv(units, _ROWS), small | layer, hidden=images * units)
    programs = tile.programs * tile.tiles
    if law.reach == "all" and programs > _WAVES * tile.wanted:
        yield _Step(kernels.gate, tile.programs, small, scale=values, shift=values)
        centre = {"centre": operands["norm"][0], "SPLITS": tile.tiles}
        yield _Step(triton_kernels.integrate, programs, maps | centre)
    else:
        yield _Step(kernels.tail, programs, maps)


class _Step:
    """One launch.

    Args:
        kernel: to launch.
        programs: how many.
        operands: by name; the kernel takes those that it wants.
        scratch: values of what it writes for those after it, by name.
    """

    def __init__(self, kernel: Any, programs: int, operands: dict[str, Any], **scratch: int) -> None:
        self.kernel, self.grid, self.scratch = kernel, (programs, 1, 1), scratch
        self.names: list[str] = kernel.arg_names
        self.constants = {name: operands[name] for name in self.names if name not in _SLOTS}
        self.runner: Callable[..., None] | None = None

    def launch(self, changing: dict[str, Tensor | None]) -> None:
        """Launch it as Triton does, which compiles what it has not compiled before."""
        operands = {name: changing[name] for name in self.names if name in _SLOTS}
        compiled = self.kernel[self.grid](**operands, **self.constants, **OPTIONS)
        if compiled is not None:  # the interpreter compiles nothing
            self.runner = compiled[self.grid]

    def remembered(self) -> tuple[Any, Any, tuple[Any, ...]]:
        """The compiled kernel, what picks its operands from slots and constants, and the constants."""
        places = [*_SLOTS, *self.constants]
        pick = itemgetter(*(places.index(name) for name in self.names))
        return self.runner, pick, tuple(map(_address, self.constants.values()))


def _address(value: Any) -> Any:
    """Address that a compiled kernel takes in place of a tensor."""
    if isinstance(value, tuple):
        return tuple(map(_address, value))
    return value.data_ptr() if isinstance(value, Tensor) else value


class Launches:
    """The launches of a tail, one after the other.

    Args:
        steps: each launch; the first time as Triton does it, from then on by the compiled kernels themselves.
        tensors: of modules, which they read.
        x: a map of the kind that they are for.
    """

    def __init__(self, steps: list[_Step], tensors: list[Tensor], x: Tensor) -> None:
        self.tensors, self.device, self.wide = tensors, x.get_device(), wide(x.dtype)
        self._steps, self._remembered = steps, []  # type: ignore[var-annotated]
        sizes = {name: size for step in steps for name, size in step.scratch.items()}
        starts, self._size = {}, 0
        for name, size in sizes.items():
            starts[name] = self._size
            self._size += -(-size // _ALIGNED) * _ALIGNED
        self._parts = {name: slice(starts[name], starts[name] + sizes[name]) for name in sizes}
        self._offsets = [starts[name] * self.wide.itemsize if name in starts else None for name in _SLOTS[3:]]

    def __call__(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """The output for a map and a shortcut."""
        if not self._remembered:
            return self._first(x, residual)
        active = driver.active
        if active.get_current_device() != self.device:
            with torch.cuda.device(self.device):
                return self(x, residual)
        y = torch.empty_like(x)
        slots = [x.data_ptr(), None if residual is None else residual.data_ptr(), y.data_ptr()]
        if self._size:
            scratch = x.new_empty(self._size, dtype=self.wide)  # kept until all is launched
            start = scratch.data_ptr()
            slots += [None if offset is None else start + offset for offset in self._offsets]
        else:
            slots += self._offsets
        stream = active.get_current_stream(self.device)
        for runner, pick, constants in self._remembered:
            runner(*pick((*slots, *constants)), stream=stream)
        return y

    def _first(self, x: Tensor, residual: Tensor | None) -> Tensor:
        y, scratch = torch.empty_like(x), x.new_empty(self._size, dtype=self.wide)
        changing = dict.fromkeys(_SLOTS) | {name: scratch[part] for name, part in self._parts.items()}
        with torch.cuda.device_of(x):
            for step in self._steps:
                step.launch(changing | {"x": x, "residual": residual, "y": y})
        if all(step.runner is not None for step in self._steps):
            self._remembered = [step.remembered() for step in self._steps]
        return y


def _channels_at_once(tile: Tile) -> int:
    return max(16, min(triton.next_power_of_2(tile.channels), _AT_ONCE // tile.splits))


def _bias(kernel: Kernel, tile: Tile) -> _Gate:
    return _Gate(kernels.bias, kernel.parameters)


def _neighbours(kernel: Kernel, tile: Tile) -> _Gate:
    taps: Any = kernel.parameters[0]  # one kernel (1, 1, k) for all channels, or (C, 1, k)
    k = taps.shape[2]
    return _Gate(kernels.neighbours, kernel.parameters, shape=(k, 0 if len(taps) == 1 else k), reach="near")


def _style(kernel: Kernel, tile: Tile) -> _Gate:
    return _Gate(kernels.style, kernel.parameters, kernel.numbers)


def _context(kernel: Kernel, tile: Tile) -> _Gate:
    shape = (_channels_at_once(tile),)
    return _Gate(kernels.context, kernel.parameters, kernel.numbers, shape, reach="all")


def _excitation(kernel: Kernel, tile: Tile) -> _Gate:
    first, first_bias, second, second_bias, assign = kernel.parameters
    assert first is not None
    assert second is not None
    if first.shape != second.shape[::-1]:  # a kernel would read past their ends
        raise RecalibError(f"layers of shape {tuple(first.shape)} and {tuple(second.shape)} do not follow each other")
    units, branches = len(first), 0 if assign is None else len(assign)
    shape = (units, min(64, triton.next_power_of_2(units)), branches, triton.next_power_of_2(max(branches, 1)))
    layers = (first, first_bias, assign)
    return _Gate(kernels.excitation, (second, second_bias), (), shape, "all", layers, (units, branches))


_GATES: dict[str, Callable[[Kernel, Tile], _Gate]] = {
    "bias": _bias,
    "neighbours": _neighbours,
    "style": _style,
    "context": _context,
    "excitation": _excitation,
}
