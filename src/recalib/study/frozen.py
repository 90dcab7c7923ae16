"""A gate that no longer looks at the image: which constants may stand in for it, and where they fold away."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn

from recalib import ops
from recalib.attention import Attention
from recalib.deploy.deployed import NORMS_BY_NAME, Deployed
from recalib.deploy.graph import module_of
from recalib.ops import Affine, Moments

StandIn = Literal["mean", "logit", "fit"]
"""``mean``: of scale and shift over the images. ``logit``: the sigmoid of the mean logit, for gates that end in a
sigmoid. ``fit``: the scale and shift that come nearest to the gated map, by least squares over pixels and images."""

STAND_INS: tuple[StandIn, ...] = get_args(StandIn)
SHARE = 4  # one channel in so many speaks for all of them in a `FewChannels`
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)


class Constant(nn.Module):
    """A scale and a shift per channel in the place of a gate: ``y = scale * x + shift``.

    Args:
        affine: scale and shift of shape (C,), each possibly None.
        like: a map of the network, for device and precision.
    """

    def __init__(self, affine: Affine, like: Tensor) -> None:
        super().__init__()
        for name, value in affine._asdict().items():
            self.register_buffer(name, None if value is None else value.to(like)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        y = x * self.scale if isinstance(self.scale, Tensor) else x
        return y + self.shift if isinstance(self.shift, Tensor) else y


class FewChannels(nn.Module):
    """A gate that looks at few channels: scale and shift of every channel are linear in the means of some.

    It folds nowhere. What it loses says whether a gate could be had for a part of the pooling.

    Args:
        chosen: places of the channels that it looks at, shape (K,).
        weight: their part in scale and shift, shape (K, 2C).
        bias: the rest of scale and shift, shape (2C,).
        like: a map of the network, for device and precision.
    """

    def __init__(self, chosen: Tensor, weight: Tensor, bias: Tensor, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("chosen", chosen.to(like.device))
        self.register_buffer("weight", weight.to(like))
        self.register_buffer("bias", bias.to(like))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        buffers: Any = self
        means = x.mean((2, 3))[:, buffers.chosen]
        scale, shift = (means @ buffers.weight + buffers.bias)[:, :, None, None].chunk(2, 1)
        return x * scale + shift


@dataclass
class GateSums:
    """Sums over images of what the stand-ins of a gate follow from; float64, shape (C,), whatever the batches were.

    With u the map, y = s u + t the gated one, m and q the mean of u and of its square over H and W.

    Attributes:
        images: number taken in.
        size: H times W of the maps.
        sums: by name.
        has_scale: true where the gate scales.
        has_shift: true where it shifts.
        has_logit: true where all scales were between 0 and 1, and there was no shift.
        rows: m, s and t of every image, in batches of shape (3, N, C), where they are kept; `linear` takes them.
    """

    images: int = 0
    size: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    has_scale: bool = False
    has_shift: bool = False
    has_logit: bool = True
    rows: list[Tensor] | None = None

    @torch.no_grad()
    def add(self, u: Tensor, gate: Attention) -> None:
        """Take in a batch of maps (N, C, H, W) and what the gate makes of them."""
        m, v, size = ops.moments(u, variance=True)
        assert v is not None
        scale, shift = gate.affine(Moments(m, v if gate.needs_variance else None, size))
        m, q = m.double(), (v + m.square()).double()
        s = torch.ones_like(m) if scale is None else scale.double()
        t = torch.zeros_like(m) if shift is None else shift.double()
        self.images, self.size = self.images + len(u), size
        if self.rows is not None:
            self.rows.append(torch.stack([m, s, t]))
        self.has_scale, self.has_shift = scale is not None, shift is not None
        self.has_logit = self.has_logit and self.has_scale and not self.has_shift and bool(((s > 0) & (s < 1)).all())
        found = {"m": m, "q": q, "s": s, "t": t, "y": s * m + t, "yu": s * q + t * m,
                 "yy": s.square() * q + 2 * s * t * m + t.square()}  # fmt: skip
        if self.has_logit:
            found["logit"] = s.logit()
        for name, values in found.items():
            self.sums[name] = self.sums.get(name, 0) + values.sum(0)

    def stand_in(self, kind: StandIn, shifts: bool) -> Affine | None:
        """Scale and shift (C,) of a stand-in; None where this gate has none of that kind.

        Args:
            kind: which.
            shifts: true where the layer that makes the map takes a shift.
        """
        e = {name: total / self.images for name, total in self.sums.items()}
        if self.has_shift and not shifts:
            return None
        if kind == "mean":
            return Affine(e["s"] if self.has_scale else None, e["t"] if self.has_shift else None)
        if kind == "logit":
            return Affine(e["logit"].sigmoid()) if self.has_logit else None
        spread, together = e["q"] - e["m"].square(), e["yu"] - e["y"] * e["m"]
        if not shifts:
            return Affine(torch.where(e["q"] > 0, e["yu"] / e["q"], e["s"]))
        scale = torch.where(spread > 0, together / spread, e["s"])
        return Affine(scale, e["y"] - scale * e["m"])

    def linear(self, like: Tensor) -> FewChannels:
        """The gate as a linear function of the means of a quarter of its channels, by least squares over the images.

        The channels are taken one after the other, each the one that explains most of what is left (orthogonal
        matching pursuit), errors of a scale counted as they show in the map.

        Args:
            like: a map of the network, for device and precision.
        """
        m, s, t = torch.cat(self.rows or [], 1)
        power = (self.sums["q"] / self.images).sqrt()
        wanted = torch.cat([s * power, t], 1)
        left, able = wanted - wanted.mean(0), m - m.mean(0)
        some, chosen = 1e-9 * able.norm(dim=0).max(), list[int]()
        for _ in range(max(1, min(m.shape[1] // SHARE, len(m) // 4))):
            lengths = able.norm(dim=0)
            unit = torch.where(lengths > some, able / lengths.clamp(min=1e-300), 0.0)
            chosen.append(int((unit.T @ left).square().sum(1).argmax()))
            direction = unit[:, chosen[-1:]]
            left, able = left - direction @ (direction.T @ left), able - direction @ (direction.T @ able)
        known = torch.cat([m[:, chosen], torch.ones_like(m[:, :1])], 1)
        found = torch.linalg.lstsq(known, torch.cat([s, t], 1), driver="gelsd").solution
        return FewChannels(torch.tensor(chosen), found[:-1], found[-1], like)

    @property
    def variation(self) -> float:
        """RMS error of the best constant, relative to the standard deviation of the gated map."""
        e = {name: total / self.images for name, total in self.sums.items()}
        spread, together = e["q"] - e["m"].square(), e["yu"] - e["y"] * e["m"]
        whole = e["yy"] - e["y"].square()
        kept = torch.where(spread > 0, together.square() / spread, whole)
        return float(((whole - kept).clamp(min=0).sum() / whole.sum().clamp(min=1e-30)).sqrt())


def carrier(graph: Deployed, node: fx.Node) -> str | None:
    """Name of the norm or convolution that makes the map an attention module reads, for that module alone.

    A constant scale folds into it. None where there is no such layer: the constant would stay a multiplication.
    """
    source = node.all_input_nodes[0]
    calls = [other for other in graph.fx_graph.nodes if other.op == "call_module" and other.target == source.target]
    if source.op != "call_module" or len(source.users) > 1 or len(calls) > 1:
        return None
    return str(source.target) if _takes_scale(graph.get_submodule(str(source.target))) else None


def takes_shift(layer: nn.Module) -> bool:
    """True for a layer that takes a shift beside a scale: one with a bias."""
    return getattr(layer, "bias", None) is not None


def fold_(layer: nn.Module, affine: Affine) -> None:
    """Put ``scale * layer(x) + shift`` into the layer's weight and bias, in place; exact but for rounding."""
    weight: Any = layer.weight
    bias: Any = layer.bias
    with torch.no_grad():
        if affine.scale is not None:
            scale = affine.scale.to(weight.device, torch.float64)
            weight.copy_(weight.double() * (scale if weight.ndim == 1 else scale[:, None, None, None]))
            if bias is not None:
                bias.copy_(bias.double() * scale)
        if affine.shift is not None:
            bias.copy_(bias.double() + affine.shift.to(bias.device, torch.float64))


def gates_of(graph: Deployed) -> dict[str, fx.Node]:
    """The gates on moments in a graph: the node of each call, by the name of its module."""
    nodes = [node for node in graph.fx_graph.nodes if isinstance(module_of(graph, node), Attention)]
    return {str(node.target): node for node in nodes}


def _takes_scale(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return True
    if hasattr(layer, "act") and not (isinstance(layer.act, nn.Identity) and isinstance(layer.drop, nn.Identity)):
        return False  # timm's norms with an activation
    known = isinstance(layer, _NORMS) or type(layer).__name__ in NORMS_BY_NAME
    return known and layer.weight is not None and layer.bias is not None
