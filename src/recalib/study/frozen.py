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


@dataclass
class GateSums:
    """Sums over images of what the stand-ins of a gate follow from; float64, shape (C,), whatever the batches were.

    With u the map, y = s u + t the gated one, m and q the mean of u and of its square over H and W.
    """

    images: int = 0
    size: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    has_scale: bool = False
    has_shift: bool = False
    has_logit: bool = True

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
            shifts: whether a shift can be taken in by what makes the map.
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

    @property
    def variation(self) -> float:
        """What the best constant misses of the gated map: its RMS error, relative to the map's standard deviation."""
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
    """Whether a layer that takes a scale takes a shift, too: one without a bias does not."""
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
