"""Where in the graph attention sits, and the form each site takes in a runtime."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from recalib.attention import Attention
from recalib.deploy.gates import Gate, GateFirst, GateInWeights, Pool, first_layer, is_known, kind, means
from recalib.deploy.graph import module_of, put_module

Target = Literal["eager", "compile", "onnxruntime", "openvino", "tensorrt"]


@dataclass(frozen=True)
class Site:
    """A tail of the graph: ``[relu](attention(conv(h)) [+ residual])``.

    Attributes:
        node: the call of the attention module.
        attention: that module.
        conv: the 1x1 or 3x3 convolution whose output only this site reads, batch norm folded, or None.
        add: the addition that alone reads the site's output, or None.
        relu: the activation that alone reads the addition, or None.
        batch: N of the map.
        size: H*W of the map.
    """

    node: fx.Node
    attention: Attention
    conv: nn.Conv2d | None
    add: fx.Node | None
    relu: fx.Node | None
    batch: int
    size: int

    @property
    def map(self) -> fx.Node:
        """The node of the map u that attention reads."""
        return self.node.all_input_nodes[0]

    @property
    def residual(self) -> fx.Node:
        """The node of the shortcut; only where there is an addition."""
        assert self.add is not None
        return next(n for n in self.add.all_input_nodes if n is not self.node)


def find_sites(graph: fx.GraphModule, sizes: dict[fx.Node, torch.Size]) -> list[Site]:
    """Every attention on moments in the graph that integrates by a scale or by a shift."""
    found = []
    for node in graph.graph.nodes:
        attention = module_of(graph, node)
        if isinstance(attention, Attention) and kind(attention) != "both":
            source = node.all_input_nodes[0]
            conv = module_of(graph, source) if len(source.users) == 1 else None
            add = _only_user(node, _is_add)
            relu = _only_user(add, lambda n: _is_relu(graph, n)) if add is not None else None
            batch, _, h, w = sizes[node]
            found.append(Site(node, attention, conv if _is_linear_in_means(conv) else None, add, relu, batch, h * w))
    return found


def _only_user(node: fx.Node, wanted: Callable[[fx.Node], bool]) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and wanted(users[0]) else None


def _is_add(node: fx.Node) -> bool:
    adds = {operator.add, operator.iadd, torch.add}
    called = node.target in adds if node.op == "call_function" else node.target in ("add", "add_")
    return called and len(node.all_input_nodes) == 2 and node.op != "call_module"


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if isinstance(module_of(graph, node), nn.ReLU):
        return True
    return node.target in {torch.relu, torch.relu_, F.relu, "relu", "relu_"}


def _is_linear_in_means(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether the means of a convolution's output follow from means of its input."""
    if not isinstance(conv, nn.Conv2d) or set(conv.stride) != {1} or conv.groups != 1 or set(conv.dilation) != {1}:
        return False
    shape = (conv.kernel_size, conv.padding)
    return shape in (((1, 1), (0, 0)), ((3, 3), (1, 1))) and conv.padding_mode == "zeros"


def gate_first_is_possible(site: Site) -> bool:
    """Whether a site's gate can be computed from the input of the convolution before it."""
    return site.conv is not None and not site.attention.needs_variance and is_known(site.attention)


def gate_first_pays(site: Site) -> bool:
    """The rule for reading the convolution's input instead of its output: the values read for one image.

    The output's way reads the map, C_out * H*W, and the first layer; the input's way reads C_in * H*W and the folded
    layer, K * C_in a tap. A layer that is C_out wide (ECA, AB) makes that large: at small maps of many channels it
    loses. At a 3x3 convolution, whose input is as wide as its output, there is nothing to win by reading alone.
    """
    if not gate_first_is_possible(site):
        return False
    assert site.conv is not None
    outside, inside = site.conv.out_channels, site.conv.in_channels
    taps = site.conv.kernel_size[0] * site.conv.kernel_size[1]
    width = len(first_layer(site.attention)[1])
    layer = 0 if width == outside else width * outside  # K = C_out: a diagonal or a band, not a full layer
    return inside * site.size + width * inside * taps < outside * site.size + layer


def gate_in_weights_pays(site: Site, target: Target) -> bool:
    """The rule for scaling the weights of a 1x1 convolution instead of its output, C_in values a channel, not H*W.

    Images do not share such weights, so there must be one. ONNX Runtime alone gains: elsewhere the
    product costs nothing beside the addition (eager, compile) or a convolution wants weights it can prepare (OpenVINO).
    A shift is cheaper on the shortcut (see `_integrate`).
    """
    if site.batch != 1 or target != "onnxruntime" or kind(site.attention) == "shift":
        return False
    return site.conv is not None and site.conv.kernel_size == (1, 1) and site.conv.in_channels < site.size


def rewrite(graph: fx.GraphModule, site: Site, target: Target, gate_first: bool) -> None:
    """Put a site's gate and its integration into the graph in the form that suits the target.

    Args:
        graph: the network; its nodes are changed.
        site: one of `find_sites`.
        target: the runtime.
        gate_first: whether the gate reads the input of the convolution.
    """
    # A variance is taken outside of the blocked layout, so there the map leaves it anyway; and only where a ReLU
    # follows is there a fusion to keep.
    blocked = target == "onnxruntime" and not site.attention.needs_variance and site.relu is not None
    pool = means_blocked if blocked else means
    if gate_first and gate_in_weights_pays(site, target):
        _put_in_weights(graph, site, pool)
        return
    if gate_first:
        assert site.conv is not None
        gate: nn.Module = GateFirst(site.attention, site.conv, pool)
        source = site.map.all_input_nodes[0]
    else:
        gate, source = Gate(site.attention, pool), site.map
    name = f"{site.node.target}_gate"
    put_module(graph, name, gate)
    with graph.graph.inserting_before(site.node):
        operand = graph.graph.call_module(name, (source,))
        if blocked:
            put_module(graph, f"{name}_spread", Spread(site.attention.channels).to(_like(graph)))
            operand = graph.graph.call_module(f"{name}_spread", (operand, site.map))
    _integrate(graph.graph, site, operand, target, gate_first)


def _put_in_weights(graph: fx.GraphModule, site: Site, pool: Pool) -> None:
    assert site.conv is not None
    name = f"{site.node.target}_conv"
    put_module(graph, name, GateInWeights(GateFirst(site.attention, site.conv, pool), site.conv))
    with graph.graph.inserting_before(site.node):
        whole = graph.graph.call_module(name, (site.map.all_input_nodes[0],))
    site.node.replace_all_uses_with(whole)
    graph.graph.erase_node(site.node)


def _integrate(graph: fx.Graph, site: Site, operand: fx.Node, target: Target, gate_first: bool) -> None:
    shift = kind(site.attention) == "shift"
    if shift and gate_first and site.add is not None and target in FUSES_CONV_ADD_RELU:
        # On the shortcut the shift leaves convolution + addition + ReLU together for the runtime to fuse.
        with graph.inserting_before(site.add):
            shifted = graph.call_function(operator.add, (site.residual, operand))
        site.add.replace_input_with(site.residual, shifted)
        site.node.replace_all_uses_with(site.map)
    elif not shift and site.add is not None and target == "eager":
        with graph.inserting_before(site.add):
            whole = graph.call_function(torch.addcmul, (site.residual, site.map, operand))
        site.add.replace_all_uses_with(whole)
        graph.erase_node(site.add)
    else:
        with graph.inserting_before(site.node):
            part = graph.call_function(operator.add if shift else operator.mul, (site.map, operand))
        site.node.replace_all_uses_with(part)
    graph.erase_node(site.node)


FUSES_CONV_ADD_RELU = ("onnxruntime", "openvino", "tensorrt")


def means_blocked(x: Tensor) -> Tensor:
    """The same as an average pool, which ONNX Runtime keeps in the blocked layout of its convolutions."""
    return F.avg_pool2d(x, list(x.shape[2:])).flatten(1)


class Spread(nn.Module):
    """A gate (N, C, 1, 1) repeated over H and W, in the blocked layout of ONNX Runtime's convolutions.

    That runtime leaves its blocked layout, a copy of the map each way, for a product with a broadcast operand; not for
    one of two equal shapes. A depth-wise convolution with ones takes the gate into the blocked layout.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        nn.init.ones_(self.enter.weight)

    def forward(self, gate: Tensor, like: Tensor) -> Tensor:
        """The gate in the shape of the map ``like`` (N, C, H, W)."""
        return F.interpolate(self.enter(gate), scale_factor=tuple(map(float, like.shape[2:])), mode="nearest")


def work_in_place(graph: fx.GraphModule) -> None:
    """For eager: additions and ReLUs overwrite what no one else reads; a fresh map costs page faults each time."""
    for node in graph.graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None or len(source.users) > 1 or not _owns_its_output(graph, source):
            continue
        if _is_relu(graph, node):
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (source,), {}
        elif _is_add(node) and node.args[0] is source:
            node.op, node.target = "call_function", operator.iadd


def _owns_its_output(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes a fresh tensor that is no view of another."""
    if isinstance(module_of(graph, node), (nn.Conv2d, nn.BatchNorm2d)):
        return True
    return _is_add(node) or node.target in {torch.addcmul, operator.mul, torch.relu_}


def _like(graph: fx.GraphModule) -> Tensor:
    return next(graph.parameters())
