"""Gates in the blocked layout of ONNX Runtime's convolutions, which it leaves for all but a few operators.

Inside stay convolutions with constant weights, average pools, ReLU, sigmoid and tanh, and sums and products of two
equal shapes (``onnxruntime/core/optimizer/nchwc_transformer.cc``). So a gate's layers become convolutions of a map of
one pixel, and a factor or a term a channel becomes a depth-wise one.

No gate is written a second time for that: its traced code (see `recalib.deploy.layers`) is translated step by step.
A gate with a step that has no such form is left to the plain one.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from recalib.attention import Attention
from recalib.deploy.gates import GateFirst
from recalib.deploy.graph import constant
from recalib.deploy.layers import traced
from recalib.ops.norm import uses_batch_statistics


class GateBlocked(nn.Module):
    """A gate as convolutions of one pixel.

    Args:
        steps: from the map, or from the input of the convolution that makes it, to scale or shift (N, C, 1, 1).
    """

    def __init__(self, steps: fx.GraphModule) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Scale or shift (N, C, 1, 1) of the site, from the map x (N, C_in, H, W)."""
        gate: Tensor = self.steps(x)
        return gate


def blocked_first(gate: GateFirst) -> nn.Module | None:
    """A gate from the input of a 1x1 convolution in this layout; None where a step has no such form."""
    steps = _Steps(gate.weight)
    mean = steps.call(_mean, steps.start)
    layers = zip(gate.weight.split(gate.widths), gate.bias.split(gate.widths), strict=True)
    given = [_Value(steps.call(F.conv2d, mean, steps.kernel(w), steps.hold(b)), len(w)) for w, b in layers]
    return _translated(gate.rest, steps, given)


def blocked_squares(attention: Attention, centre: Tensor | None, size: int) -> nn.Module | None:
    """A gate that needs the variance in this layout, from the map; None where there is no such form.

    The mean square, where a gate asks for no more, is that of a product of the map with itself, so nothing cancels. The
    variance is taken as E[(u - c)^2] - (m - c)^2. In float32 the relative error of a standard deviation s is about 1e-7
    ((m - c) / s)^2: hence c, the mean over the data that the network was trained on, which a batch norm before knows.

    Args:
        attention: the gate.
        centre: c, about where each channel's mean is, shape (C,), where that is known.
        size: H*W.
    """
    graph = traced(attention, size)
    like = next(attention.parameters(), centre)
    if graph is None or like is None or not attention.needs_variance:
        return None
    steps = _Steps(like)
    return _translated(graph, steps, [*_Moments(steps, attention.channels, centre).values, None])


def _translated(graph: fx.GraphModule, steps: "_Steps", given: list[Any]) -> nn.Module | None:
    try:
        answer = _Translation(graph, steps).run(*given)
        return GateBlocked(steps.finish(answer))
    except _NoSuchForm:
        return None


class _NoSuchForm(Exception):
    """A step of a gate that has no form in this layout."""


@dataclass(frozen=True)
class _Value:
    """A value (N, K, 1, 1) while the steps are written: ``scale * node + shift``, the two folded where that is free.

    Attributes:
        node: what is computed; a function for what is computed only where it is asked for.
        width: K.
        scale: (K,), float64; None for 1.
        shift: (K,), float64; None for 0.
    """

    node: fx.Node | Callable[[], fx.Node]
    width: int
    scale: Tensor | None = None
    shift: Tensor | None = None


class _Steps:
    """The graph that is written.

    Args:
        like: precision and device of its constants.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.start = self.graph.placeholder("x")

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return self.graph.call_function(function, args, kwargs)

    def hold(self, tensor: Tensor) -> fx.Node:
        name = f"constant_{len(list(self.root.parameters()))}"
        self.root.register_parameter(name, constant(tensor.to(self.like)))
        return self.graph.get_attr(name)

    def kernel(self, weight: Tensor) -> fx.Node:
        return self.hold(weight[:, :, None, None])

    def node(self, value: _Value) -> fx.Node:
        """A value with its scale and shift applied: a depth-wise convolution, if there are any."""
        node = value.node() if callable(value.node) else value.node
        if value.scale is None and value.shift is None:
            return node
        scale = torch.ones(value.width, dtype=torch.double) if value.scale is None else value.scale
        bias = None if value.shift is None else self.hold(value.shift)
        return self.call(F.conv2d, node, self.hold(scale[:, None, None, None]), bias, groups=value.width)

    def layer(self, value: _Value, weight: Tensor, bias: Tensor | None = None) -> _Value:
        """A full layer of a value: weight (O, K)."""
        if value.shift is not None:
            bias = weight @ value.shift + (0 if bias is None else bias)
        if value.scale is not None:
            weight = weight * value.scale
        node = value.node() if callable(value.node) else value.node
        made = self.call(F.conv2d, node, self.kernel(weight), None if bias is None else self.hold(bias))
        return _Value(made, len(weight))

    def finish(self, answer: object) -> fx.GraphModule:
        if not isinstance(answer, _Value):
            raise _NoSuchForm
        if answer.scale is None and answer.shift is None and getattr(answer.node, "target", None) not in _INSIDE:
            answer = replace(answer, scale=torch.ones(answer.width, dtype=torch.double))  # takes it into the layout
        self.graph.output(self.node(answer))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph)


class _Moments:
    """Mean and variance of the map, written only where a gate asks for them."""

    def __init__(self, steps: _Steps, channels: int, centre: Tensor | None) -> None:
        self.steps = steps
        self.channels = channels
        self.centre = None if centre is None else centre.detach().cpu().double()
        self.written: dict[str, fx.Node] = {}

    @property
    def values(self) -> tuple[_Value, _Value]:
        return _Value(self.mean, self.channels, shift=self.centre), _Value(self.variance, self.channels)

    def mean(self) -> fx.Node:
        """Of the map less the centre."""
        return self._once("mean", lambda: self.steps.call(_mean, self._centred()))

    def variance(self) -> fx.Node:
        if self.centre is None:
            raise _NoSuchForm
        return self._once("variance", self._variance)

    def square(self) -> fx.Node:
        """Mean square of the map itself."""
        call, u = self.steps.call, self.steps.start
        return self._once("square", lambda: call(_mean, call(operator.mul, u, u)))

    def _variance(self) -> fx.Node:
        call, d, m = self.steps.call, self._centred(), self.mean()
        minus = self.steps.node(
            _Value(call(operator.mul, m, m), self.channels, -torch.ones(self.channels, dtype=torch.double))
        )
        # rounding may take a constant map's variance below zero
        return call(torch.relu, call(operator.add, minus, call(_mean, call(operator.mul, d, d))))

    def _centred(self) -> fx.Node:
        if self.centre is None:
            return self.steps.start
        one = torch.ones(self.channels, dtype=torch.double)
        value = _Value(self.steps.start, self.channels, one, -self.centre)
        return self._once("centred", lambda: self.steps.node(value))

    def _once(self, name: str, write: Callable[[], fx.Node]) -> fx.Node:
        if name not in self.written:
            self.written[name] = write()
        return self.written[name]


class _Translation(fx.Interpreter):
    """Runs a gate's code on constants, which are computed, and on values, whose steps are written."""

    def __init__(self, graph: fx.GraphModule, steps: _Steps) -> None:
        super().__init__(graph)
        self.steps = steps

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = super().get_attr(target, args, kwargs)
        return found.detach().cpu().double() if isinstance(found, Tensor) else found

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not any(isinstance(one, _Value) for one in (*_flat(args), *kwargs.values())):
            with torch.no_grad():
                return super().call_function(target, args, kwargs)
        return self._written(target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not any(isinstance(one, _Value) for one in _flat(args)):
            with torch.no_grad():
                return super().call_method(target, args, kwargs)
        return self._written(_METHODS.get(target, target), args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        norm: Any = self.fetch_attr(target)
        if not isinstance(norm, (nn.BatchNorm1d, nn.SyncBatchNorm)) or uses_batch_statistics(norm):
            raise _NoSuchForm
        state = {key: tensor.detach().cpu().double() for key, tensor in norm.state_dict().items()}
        scale = (state["running_var"] + norm.eps).rsqrt() * state.get("weight", 1.0)
        scaled = self._product(self._sum(args[0], -state["running_mean"]), scale)
        return self._sum(scaled, state.get("bias", 0.0))

    def _written(self, target: Any, args: Any, kwargs: Any) -> Any:
        first = args[0]
        if target is getattr and args[1] in ("dtype", "device"):
            return {"dtype": torch.double, "device": torch.device("cpu")}[args[1]]
        if target in _NOTHING:
            return first
        if target in _POINTWISE and isinstance(first, _Value) and not args[1:]:
            return _Value(self.steps.call(target, self.steps.node(first), **kwargs), first.width)
        rule = _RULES.get(target)
        if rule is None:
            raise _NoSuchForm
        try:
            return rule(self, *args, **kwargs)
        except (TypeError, RuntimeError, IndexError, AttributeError):  # arguments that a rule does not know
            raise _NoSuchForm from None

    def _sum(self, a: Any, b: Any) -> _Value:
        if isinstance(a, _Value) and isinstance(b, _Value):
            if a.width != b.width:
                raise _NoSuchForm
            return _Value(self.steps.call(operator.add, self.steps.node(a), self.steps.node(b)), a.width)
        value, term = (a, b) if isinstance(a, _Value) else (b, a)
        term = _each(term, value.width)
        return replace(value, shift=term if value.shift is None else value.shift + term)

    def _product(self, a: Any, b: Any) -> _Value:
        if isinstance(a, _Value) and isinstance(b, _Value):
            made = self.steps.call(operator.mul, self.steps.node(a), self.steps.node(b))
            return _Value(made, _common(a.width, b.width))
        value, factor = (a, b) if isinstance(a, _Value) else (b, a)
        factor = _each(factor, value.width)
        scale, shift = value.scale, value.shift
        return replace(
            value,
            scale=factor if scale is None else scale * factor,
            shift=None if shift is None else shift * factor,
        )

    def _quotient(self, a: Any, b: Any) -> _Value:
        if not isinstance(b, _Value):
            return self._product(a, 1 / _each(b, a.width))
        if isinstance(a, _Value):
            made = self.steps.call(operator.truediv, self.steps.node(a), self.steps.node(b))
            return _Value(made, _common(a.width, b.width))
        width = max(torch.as_tensor(a).numel(), b.width)
        above = self.steps.hold(_each(a, width)[None, :, None, None])
        return _Value(self.steps.call(operator.truediv, above, self.steps.node(b)), _common(width, b.width))

    def _difference(self, a: Any, b: Any) -> _Value:
        return self._sum(a, self._product(b, -1.0) if isinstance(b, _Value) else -b)

    def _addcmul(self, a: Any, b: Any, c: Any, *, value: float = 1) -> Any:
        if isinstance(a, _Value) and b is c and value == 1 and (square := _mean_square(a, b)) is not None:
            return _Value(square, a.width)
        product = self._product(b, c) if isinstance(b, _Value) or isinstance(c, _Value) else b * c
        return self._sum(a, product if value == 1 else self._product(product, value))

    def _linear(self, x: _Value, weight: Tensor, bias: Tensor | None = None) -> _Value:
        return self.steps.layer(x, weight, bias)

    def _matmul(self, x: _Value, matrix: Tensor) -> _Value:
        return self.steps.layer(x, matrix.T)

    def _softmax(self, x: _Value, dim: int = 1, **_: Any) -> _Value:
        _require(dim in (1, -1))
        return _Value(self.steps.call(torch.softmax, self.steps.node(x), 1), x.width)

    def _mean_of_all(self, x: _Value, dim: int, keepdim: bool = False) -> _Value:
        _require(dim in (1, -1) and keepdim)
        return self.steps.layer(x, torch.full((1, x.width), 1 / x.width, dtype=torch.double))

    def _repeat_interleave(self, x: _Value, repeats: int, dim: int) -> _Value:
        _require(dim in (1, -1))
        return self.steps.layer(x, torch.eye(x.width, dtype=torch.double).repeat_interleave(repeats, 0))


def _mean_square(variance: _Value, mean: Any) -> Callable[[], fx.Node] | None:
    """``v + m^2`` of the map's own moments."""
    of = getattr(variance.node, "__self__", None)
    same = isinstance(mean, _Value) and getattr(mean.node, "__self__", None) is of and mean.scale is None
    if not same or variance.scale is not None or variance.shift is not None:
        return None
    return of.square if isinstance(of, _Moments) else None


def _flat(args: Any) -> Any:
    return [one for arg in args for one in (arg if isinstance(arg, (tuple, list)) else (arg,))]


def _each(number: Any, width: int) -> Tensor:
    """A constant as one number a channel."""
    t = torch.as_tensor(number, dtype=torch.double).flatten()
    _require(t.numel() in (1, width) and torch.as_tensor(number).ndim <= 2)
    return t.expand(width)


def _common(a: int, b: int) -> int:
    _require(1 in (a, b) or a == b)
    return max(a, b)


def _require(holds: bool) -> None:
    if not holds:
        raise _NoSuchForm


_NOTHING = {"to", "float", "double", "type_as", "contiguous"}
_POINTWISE = {
    torch.relu, torch.sigmoid, torch.tanh, torch.sqrt, torch.square, torch.exp, torch.abs, F.relu, F.sigmoid, F.tanh,
    F.hardsigmoid, F.relu6, F.silu, F.hardswish, F.softplus, F.elu, F.leaky_relu, F.gelu,
}  # fmt: skip
_INSIDE = {F.conv2d, torch.relu, torch.sigmoid, torch.tanh, F.relu, F.sigmoid, F.tanh}
_METHODS: dict[str, Any] = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "sqrt": torch.sqrt, "square": torch.square,
    "exp": torch.exp, "abs": torch.abs, "mul": torch.mul, "add": torch.add, "sub": torch.sub, "div": torch.div,
    "matmul": torch.matmul, "softmax": torch.softmax, "mean": torch.mean, "repeat_interleave": torch.repeat_interleave,
}  # fmt: skip
_RULES: dict[Any, Callable[..., Any]] = {
    operator.add: _Translation._sum, torch.add: _Translation._sum,
    operator.sub: _Translation._difference, torch.sub: _Translation._difference,
    operator.mul: _Translation._product, torch.mul: _Translation._product,
    operator.truediv: _Translation._quotient, torch.div: _Translation._quotient,
    operator.neg: lambda translation, x: translation._product(x, -1.0),
    torch.addcmul: _Translation._addcmul,
    F.linear: _Translation._linear,
    operator.matmul: _Translation._matmul, torch.matmul: _Translation._matmul,
    torch.softmax: _Translation._softmax, F.softmax: _Translation._softmax,
    torch.mean: _Translation._mean_of_all,
    torch.repeat_interleave: _Translation._repeat_interleave,
}  # fmt: skip


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, list(x.shape[2:]))
