"""Record of a network's forward pass: which module made which map of which others.

Symbolic tracing ends where control flow depends on data; a run of a copy does not, and knows every shape.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from recalib.errors import RecalibError
from recalib.surgery.dry_run import example_input
from recalib.surgery.wrap import without_wrappers

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
ADDITIONS = ("add", "add_", "__add__", "__iadd__", "__radd__")
SCALINGS = ("mul", "mul_", "__mul__", "__imul__", "__rmul__", "multiply", "div", "__truediv__")


@dataclass(eq=False)
class Frame:
    """A call of a module.

    Attributes:
        name: of the module, without wrappers.
        module: of the copy that ran.
        outer: the call that made this one, or None.
        result: what it returned, where that is one tensor.
    """

    name: str
    module: nn.Module
    outer: Frame | None
    result: Value | None = None

    def within(self, frame: Frame) -> bool:
        """True if this call is another one, or inside of it."""
        return any(outer is frame for outer in self.outwards())

    def outwards(self) -> Iterator[Frame]:
        """This call, and the calls around it."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.outer


@dataclass(eq=False)
class Value:
    """A tensor that was made.

    Attributes:
        function: name of the function of PyTorch's that made it.
        frame: the innermost call of a module that was running.
        shape: of the tensor.
        sources: the tensors it was made of that were made themselves, parameters and constants apart.
        readers: what was made of it.
    """

    function: str
    frame: Frame | None
    shape: tuple[int, ...]
    sources: tuple[Value, ...] = ()
    readers: list[Value] = field(default_factory=list, repr=False)

    @property
    def keeps_shape_of(self) -> Value | None:
        """Its one source, where it has that source's shape."""
        if len(self.sources) == 1 and self.sources[0].shape == self.shape:
            return self.sources[0]
        return None

    @property
    def weighted(self) -> bool:
        """True if the module that made it has weights, or statistics as frozen norms do."""
        return self.frame is not None and has_weights(self.frame.module)


@dataclass
class Run:
    """One forward pass.

    Attributes:
        frames: every call of a module, in the order in which they ended.
        dims: number of spatial dimensions of the network's maps.
    """

    frames: list[Frame]
    dims: int

    def is_map(self, value: Value | None) -> bool:
        """True if a value is a map (N, C, *spatial) of more than one pixel."""
        return value is not None and len(value.shape) == 2 + self.dims and max(value.shape[2:]) > 1


def has_weights(module: nn.Module) -> bool:
    """True if a module itself, apart from its children, has parameters or buffers."""
    return bool([*module.parameters(recurse=False), *module.buffers(recurse=False)])


def convolutions(module: nn.Module) -> int:
    """Number of convolutions in a module."""
    return sum(isinstance(m, CONVOLUTIONS) for m in module.modules())


def dims_of(model: nn.Module) -> int:
    """Number of spatial dimensions of a network's maps: that of most of its convolutions."""
    kinds = [len(m.kernel_size) for m in model.modules() if isinstance(m, CONVOLUTIONS) and m.weight.shape[1] > 1]
    return max(set(kinds), key=kinds.count, default=2)


def watch(model: nn.Module) -> Run:
    """Run a copy of a network on `example_input` and note what it does; the network is left as it was.

    Raises:
        RecalibError: where it does not run.
    """
    dims = dims_of(model)
    probe = copy.deepcopy(model).eval()
    x = example_input(probe)
    frames: list[Frame] = []
    open_frames: list[Frame] = []

    def enter(module: nn.Module, name: str) -> None:
        open_frames.append(Frame(name, module, open_frames[-1] if open_frames else None))

    def leave(result: Any) -> None:
        frame = open_frames.pop()
        frame.result = getattr(result, "_watched", None) if isinstance(result, Tensor) else None
        frames.append(frame)

    for name, module in probe.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            plain = without_wrappers(name)
            module.register_forward_pre_hook(lambda m, args, plain=plain: enter(m, plain))
            module.register_forward_hook(lambda m, args, result: leave(result))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Watch(open_frames), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe(x)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RecalibError(
            f"{type(model).__name__} does not run on {tuple(x.shape)}, so its sites cannot be seen ({reason}); "
            "name the modules that attention should follow with where=[...]"
        ) from error
    return Run(frames, dims)


class _Watch(TorchFunctionMode):
    """Gives each tensor that is made a `Value`, which it carries as an attribute."""

    def __init__(self, open_frames: list[Frame]) -> None:
        super().__init__()
        self.open_frames = open_frames

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "") or str(resolve_name(func))
        made = [args[0]] if name == "__setitem__" else list(_tensors(result))
        if made:
            frame = self.open_frames[-1] if self.open_frames else None
            operands = dict.fromkeys(map(_value, _tensors((args, kwargs or {}))))
            sources = tuple(source for source in operands if source is not None)
            for tensor in made:
                value = Value(name, frame, tuple(tensor.shape), sources)
                for source in sources:
                    source.readers.append(value)
                tensor.__dict__["_watched"] = value
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _value(tensor: Tensor) -> Value | None:
    """Knowledge of a tensor: parameters and buffers are no values, whatever nobody saw is one without sources."""
    known: Value | None = getattr(tensor, "_watched", None)
    if known is None and not isinstance(tensor, nn.Parameter) and tensor.ndim > 2:
        known = Value("", None, tuple(tensor.shape))
        tensor.__dict__["_watched"] = known
    return known
