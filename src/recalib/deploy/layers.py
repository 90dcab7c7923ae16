"""A gate taken apart: the layer it begins with, as one matrix, and the rest of it.

Nobody describes either: both are read off the `gate` that was trained. Its code is traced, and all that is linear in
the means, up to where something else begins, is evaluated on the identity, which gives the matrix.
"""

import copy
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from recalib.attention import Attention
from recalib.ops import Affine, Moments

# Values of a first layer for each channel: ECA has one, SE a sixteenth. ECAM has C // 8, as a matrix C^3 / 8 numbers,
# which are 8 GB at C = 2048: left as the convolution that it is, behind the means.
WIDEST = 4


class Layers(NamedTuple):
    """``gate(m) = rest(*(weight @ m + bias).split(widths, 1))``.

    Attributes:
        weight: shape (K, C), float64, on the CPU.
        bias: shape (K,), float64, on the CPU.
        widths: how the K values go into the rest.
        rest: from those (N, K_i) to the scale or shift (N, C), blend included.
    """

    weight: Tensor
    bias: Tensor
    widths: tuple[int, ...]
    rest: fx.GraphModule


def operand(affine: Affine) -> Tensor:
    """The one of scale and shift that there is."""
    found = affine.shift if affine.scale is None else affine.scale
    assert found is not None
    return found


def traced(attention: Attention, size: int | None = None) -> fx.GraphModule | None:
    """A gate and its blend as a graph from mean and variance (N, C) to scale or shift (N, C).

    Args:
        attention: a gate that integrates by a scale or by a shift, in evaluation mode.
        size: H*W where the graph may depend on it; None for a graph that holds for every size.

    Returns:
        The graph, or None for a gate whose code cannot be traced.
    """
    if type(attention).affine is not Attention.affine:
        return None
    root = _Whole(attention, size)
    try:
        graph = _Tracer().trace(root)
    except Exception:  # control flow over data: whatever it raises, this gate is no graph
        return None
    whole = fx.GraphModule(root, graph)
    graph.eliminate_dead_code()
    whole.recompile()
    return None if any(node.target == "any_size" and node.users for node in graph.nodes) else whole


def take_apart(attention: Attention) -> Layers | None:
    """The first layer and the rest of a gate on means; None where its code does not tell."""
    whole = None if attention.needs_variance else traced(attention)
    if whole is None:
        return None
    linear = _linear_nodes(whole)
    front = [node for node in whole.graph.nodes if node in linear and _leads_on(node, linear)]
    mean = next(node for node in whole.graph.nodes if node.op == "placeholder")
    try:
        exact = copy.deepcopy(whole).cpu().double()
        C = attention.channels
        exactly: dict[str, Any] = {"dtype": torch.double, "device": "cpu"}
        points = torch.cat([torch.eye(C, **exactly), torch.zeros(1, C, **exactly)])
        with torch.no_grad():
            first = _part(exact, [_same(exact, node) for node in front], [_same(exact, mean)])
            values = first(points[-1:])
            if any(value.ndim != 2 for value in values) or sum(value.numel() for value in values) > WIDEST * C:
                front = [mean]  # then the means themselves are what the rest is computed from
                first = _part(exact, [_same(exact, mean)], [_same(exact, mean)])
            images = first(points)
            rows = [(image[:-1] - image[-1:]).T for image in images]
            layers = Layers(
                torch.cat(rows), torch.cat([image[-1] for image in images]), tuple(map(len, rows)),
                _part(whole, [_output(whole)], front, single=True),
            )  # fmt: skip
            return layers if _agrees(layers, exact, C) else None
    except Exception:  # what the table below calls linear, applied in a way that is not: the plain form it is
        return None


def _agrees(layers: Layers, whole: fx.GraphModule, channels: int) -> bool:
    """True if the parts compute what the whole does, to float64's rounding."""
    m = torch.randn(3, channels, generator=torch.Generator().manual_seed(0), device="cpu").double()
    rest = copy.deepcopy(layers.rest).cpu().double()
    got = rest(*F.linear(m, layers.weight, layers.bias).split(layers.widths, 1))
    expected = whole(m, None, None)
    return got.shape == expected.shape and torch.allclose(got, expected, rtol=1e-9, atol=1e-12)


class _Whole(nn.Module):
    def __init__(self, attention: Attention, size: int | None) -> None:
        super().__init__()
        self.attention = attention
        self.size = size

    def forward(self, mean: Tensor, variance: Tensor, any_size: int) -> Tensor:
        size = any_size if self.size is None else self.size
        variance_or_none = variance if self.attention.needs_variance else None
        scale, shift = self.attention.gate(Moments(mean, variance_or_none, size))
        blend = self.attention.blend
        return operand(Affine(scale if blend is None or scale is None else blend(scale), shift))


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _NormBase)  # their code asks for shapes; all other layers are traced into


_RESHAPING = {
    "to", "float", "double", "type_as", "contiguous", "unsqueeze", "squeeze", "flatten", "unflatten", "reshape", "view",
    "transpose", "permute", "unfold", "roll", "sum", "mean", "neg",
    operator.getitem, operator.neg, F.pad, torch.unsqueeze, torch.squeeze, torch.flatten, torch.unflatten,
    torch.reshape, torch.transpose, torch.permute, torch.roll, torch.sum, torch.mean, torch.neg,
}  # fmt: skip
_BILINEAR = {
    "mul", "matmul", "mm", operator.mul, operator.matmul, torch.mul, torch.matmul, torch.mm, F.linear, F.conv1d,
    torch.addcmul, operator.truediv, "div", torch.div,
}  # fmt: skip
_SUMS = {"add", "sub", operator.add, operator.sub, torch.add, torch.sub, torch.cat, torch.stack}
_QUOTIENTS = {operator.truediv, "div", torch.div}


def _linear_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """Nodes that are affine functions of the means, the means included."""
    linear: set[fx.Node] = set()
    varying: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            if node.target == "mean":
                linear.add(node)
            varying.add(node)
            continue
        sources = [source for source in node.all_input_nodes if source in varying]
        if not sources or _is_metadata(node):
            continue
        varying.add(node)
        if all(source in linear for source in sources) and _keeps_linear(node, sources):
            linear.add(node)
    return linear


def _keeps_linear(node: fx.Node, sources: list[fx.Node]) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _RESHAPING or node.target in _SUMS:
        return True
    if node.target in _QUOTIENTS and sources != [node.args[0]]:
        return False
    if node.target is torch.addcmul:  # a constant, or an affine term, plus one affine factor times a constant
        return sum(argument in sources for argument in node.args[1:3]) <= 1
    in_two_places = sum(argument in sources for argument in node.args) > 1
    return node.target in _BILINEAR and len(sources) == 1 and not in_two_places


def _is_metadata(node: fx.Node) -> bool:
    return node.target is getattr and node.args[1] in ("dtype", "device")


def _leads_on(node: fx.Node, linear: set[fx.Node]) -> bool:
    return any(user not in linear and not _is_metadata(user) for user in node.users)


def _output(graph: fx.GraphModule) -> fx.Node:
    last: Any = next(reversed(graph.graph.nodes))
    answer: fx.Node = last.args[0]
    return answer


def _same(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    return next(other for other in graph.graph.nodes if other.name == node.name)


def _part(graph: fx.GraphModule, wanted: list[fx.Node], given: list[fx.Node], single: bool = False) -> fx.GraphModule:
    """The part of a graph that computes some nodes from others."""
    needed = _needed(wanted, set(given))
    part, copies = fx.Graph(), {}
    for node in given:
        copies[node] = part.placeholder(node.name)
    for node in graph.graph.nodes:
        if node in needed and node not in copies:
            part_of: Callable[[fx.Node], fx.Node] = lambda n: copies[n if n in copies else given[0]]  # noqa: E731
            copies[node] = part.node_copy(node, part_of)
    part.output(copies[wanted[0]] if single else tuple(copies[node] for node in wanted))
    return fx.GraphModule(graph, part)


def _needed(wanted: Iterable[fx.Node], given: set[fx.Node]) -> set[fx.Node]:
    needed: set[fx.Node] = set()
    pending = list(wanted)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            if node not in given and not _is_metadata(node):  # a precision is that of any other value
                pending += node.all_input_nodes
    return needed
