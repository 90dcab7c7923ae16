"""The contract of a channel attention module: which moments it needs, and its gate."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict, Unpack

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from recalib import ops
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments

Shapes = Mapping[str, Size]


class Factory(TypedDict, total=False):
    """Where and in what precision parameters are made, as torch's own layers take it (timm passes it on)."""

    device: torch.device | str | None
    dtype: torch.dtype | None


class Place(NamedTuple):
    """Where the authors of a mechanism put it, if not at the end of a residual branch.

    Attributes:
        names: regular expression of the names of modules, in the networks that the authors used.
        position: of the mechanism by those modules.
    """

    names: str
    position: Literal["after", "before"]


def _in_timms_place(initialize: Callable[..., None]) -> Callable[..., None]:
    """An initializer that takes, and leaves, the activation that timm's EfficientNets hand to their ``se_layer``."""
    if "act_layer" in inspect.signature(initialize).parameters:
        return initialize

    @functools.wraps(initialize)
    def without(self: Any, *args: Any, act_layer: object = None, **options: Any) -> None:
        initialize(self, *args, **options)

    return without


class Described:
    """Entries of the catalogue (`recalib modules`), stated on the class of a mechanism.

    Attributes:
        title: the name in its paper.
        formula: y as a function of x, with m the mean and v the variance over H and W.
        paper: first author, year and arXiv number.
        authors: where its authors put it; None for the end of a residual branch.
        identity_at_start: whether a fresh module maps x to x exactly.
        chosen_by: options of `create_attention` that make it, where its name alone makes another form.
        paper_flops: a value of the map, and times C^2, as the tables of Klomp et al. 2023 count; None for others.
        planar: whether the law is one of rows, columns or neighbours, so that it has maps (N, C, H, W) alone; others
            take (N, C, *spatial) and do not see how pixels are arranged.
        no_weight_decay: names of the parameters, relative to the module, that an optimizer should not decay.
            They stand on the class because attributes of parameters do not survive a deepcopy.
    """

    title: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str]
    authors: ClassVar[Place | None] = None
    identity_at_start: ClassVar[bool] = False
    chosen_by: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    paper_flops: ClassVar[tuple[int, int] | None] = None
    planar: ClassVar[bool] = False
    no_weight_decay: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _in_timms_place(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def spell_out(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options with shorthands written out: a tuple is one value per stage of the network."""
        return dict(options)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """``channels`` and options of the module whose tensors have these names and shapes.

        A checkpoint without a configuration is read by it. The answer is checked: the module that it makes must have
        exactly these tensors, so looking at one or two of them is enough.

        Raises:
            KeyError, ValueError, IndexError: for tensors of something else.
        """
        raise KeyError(cls.__name__)


class Attention(Described, nn.Module):
    """A gate on moments: maps (N, C, H, W) to (N, C, H, W) by a scale and a shift per image and channel.

    A mechanism is a subclass that says whether it `needs_variance` and defines `gate`. Pooling and integration
    are not its business: they are done once, in `recalib.ops.recalibrate`, for every mechanism and backend.
    Beside its `gate` it may, and need not, describe a `kernel` that computes the same, see `recalib.ops.gates`.

    Args:
        channels: C.
        identity: start as the exact identity. Mechanisms that do not by themselves learn, per channel, a blend
            of their scale, ``w * scale + b`` with w = 0 and b = 1 at the start (Klomp et al. 2023, section 3.3).
        **factory: device and dtype of the parameters.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    needs_variance: bool = False

    def __init__(self, channels: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__()
        if channels < 1:
            raise RecalibError(f"channels={channels}: a map has at least one channel")
        self.channels = channels
        self.blend = Blend(channels, **factory) if identity and not self.identity_at_start else None

    def gate(self, moments: Moments) -> Affine:
        """Scale and shift of shape (N, C) from the moments; the paper's *processing*."""
        raise NotImplementedError

    def affine(self, moments: Moments) -> Affine:
        """`gate`, blended where the module was made with ``identity``, and always in the moments' precision.

        (N, C) tensors cost nothing to keep in float32, and sums of squares over a map overflow float16.
        """
        device = moments.mean.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.affine(moments)
        scale, shift = self.gate(moments)
        return Affine(scale if self.blend is None or scale is None else self.blend(scale), shift)

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate a map x (N, C, H, W)."""
        return ops.attend(x, self)

    def extra_repr(self) -> str:
        """The channels, as torch's own layers show theirs."""
        return f"{self.channels}"


class PlainAttention(Described, nn.Module):
    """A mechanism that is not a function of the moments: same place, same result, but not fused.

    A subclass defines `recalibrated`; the identity at the start is a blend of maps, ``w * a(x) + b * x``.

    Args:
        channels: C.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    def __init__(self, channels: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__()
        self.channels = channels
        self.blend = BlendMaps(channels, **factory) if identity and not self.identity_at_start else None

    def recalibrated(self, x: Tensor) -> Tensor:
        """The mechanism itself, a(x), shape (N, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate a map x (N, C, *spatial).

        Raises:
            RecalibError: for a map that is not (N, C, H, W), where the law is `planar`.
        """
        y = _recalibrated(self, x)
        return y if self.blend is None else self.blend(x, y)


@torch.fx.wrap  # one node in symbolic tracing, as `ops.attend` is
def _recalibrated(module: PlainAttention, x: Tensor) -> Tensor:
    return _in_a_plane(module, x, module.recalibrated)


def _in_a_plane(module: Described, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Pixels of a map of another number of dimensions as a column, where the law allows it."""
    if x.ndim == 4:
        return run(x)
    if module.planar:
        raise RecalibError(f"{type(module).__name__} recalibrates maps (N, C, H, W), got {tuple(x.shape)}")
    return run(x.flatten(2).unsqueeze(3)).reshape(x.shape)


class BroadcastAttention(PlainAttention):
    """Gates that are broadcast over the map: one a channel, a row, a column or a pixel.

    A subclass says what it `reads` of the map and defines `gates` on those statistics; one whose second gate looks at
    the map that the first has scaled defines `steps`. The identity at the start is a blend of the gates' product G,
    ``x * (w * G + b)``.

    Args:
        channels: C.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    reads: ClassVar[tuple[ops.Statistic, ...]]

    def gates(self, statistics: ops.Statistics) -> ops.Gates:
        """Gates from the statistics that are asked for in `reads`."""
        raise NotImplementedError

    def steps(self) -> tuple[ops.Step, ...]:
        """Every read of the map, and what follows from it."""
        return (ops.Step(self.reads, self.gates),)

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W) behind its gates, unblended."""
        return ops.broadcast(x, self.steps(), None, tuple(self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate a map x (N, C, H, W); of (N, C, *spatial) where the law is not `planar`."""
        return _broadcast(self, x)


@torch.fx.wrap
def _broadcast(module: BroadcastAttention, x: Tensor) -> Tensor:
    return _in_a_plane(module, x, lambda flat: _of_plane(module, flat))


def _of_plane(module: BroadcastAttention, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # statistics and gates stay in float32, as those on moments do
        blend = None if module.blend is None else (module.blend.weight, module.blend.bias)
        return ops.broadcast(x, module.steps(), blend, tuple(module.parameters()))


class Blended(PlainAttention):
    """Any module that keeps a map's shape, started as the exact identity: ``y = w * module(x) + b * x``.

    Args:
        module: maps (N, C, H, W) to (N, C, H, W).
        channels: C.
    """

    def __init__(self, module: nn.Module, channels: int) -> None:
        super().__init__(channels, identity=True)
        self.module = module

    def recalibrated(self, x: Tensor) -> Tensor:
        """Output of the module for the map x."""
        y: Tensor = self.module(x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate a map x, of as many dimensions as the module takes."""
        assert self.blend is not None
        return self.blend(x, _called(self, x))


@torch.fx.wrap
def _called(module: Blended, x: Tensor) -> Tensor:
    return module.recalibrated(x)


class Blend(nn.Module):
    """``w * gate + b`` per channel, 0 and 1 at the start, not decayed (Klomp et al. 2023, section 3.3).

    Args:
        channels: C.
        **factory: device and dtype of the parameters.

    Shape:
        (N, C) -> (N, C).
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset({"weight", "bias"})

    def __init__(self, channels: int, **factory: Unpack[Factory]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, **factory))
        self.bias = nn.Parameter(torch.ones(channels, **factory))

    def forward(self, gate: Tensor) -> Tensor:
        """Blend a gate (N, C) with 1."""
        return torch.addcmul(self.bias.to(gate.dtype), gate, self.weight.to(gate.dtype))


class BlendMaps(Blend):
    """``w * a(x) + b * x`` per channel: the exact identity at the start for modules outside the contract."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Blend the map x (N, C, *spatial) with its recalibrated form y."""
        weight, bias = (p.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 2)) for p in (self.weight, self.bias))
        return weight * y + bias * x


def convolved(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """``layer(x)`` in the precision of x."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return layer._conv_forward(x, layer.weight.to(x.dtype), bias)


def normalized(norm: nn.Module, z: Tensor) -> Tensor:
    """``norm(z)`` of a small tensor (N, C, ...), returned in its precision; of a synchronised norm on any device."""
    n: Any = norm
    own = z if n.weight is None else z.to(n.weight.dtype)
    if isinstance(norm, nn.SyncBatchNorm):  # after its conversion; torch's own forward refuses a CPU
        as_map = own.flatten(2).unsqueeze(3) if z.ndim > 2 else own[:, :, None, None]
        return ops.recalibrate(as_map, norm, activation="none").reshape(z.shape).to(z.dtype)
    y: Tensor = norm(own)
    return y.to(z.dtype)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)`` in the precision of x, so that a half precision network keeps float32 gates."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)
