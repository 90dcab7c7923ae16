"""The form each site takes in a runtime, put into the graph."""

import operator

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from recalib.deploy.blocked import blocked_first, blocked_squares
from recalib.deploy.deployed import Deployed
from recalib.deploy.forms import Form, gate_stays_blocked
from recalib.deploy.gates import Gate, GateFirst, kind, means
from recalib.deploy.graph import module_of, put_new_module
from recalib.deploy.sites import TailSite, Target, is_add, is_relu
from recalib.deploy.tails import ConvTail, Tail, without_bias
from recalib.ops.capture import is_observed


def rewrite(graph: Deployed, site: TailSite, target: Target, form: Form) -> None:
    """Put a site's gate and its integration into the graph in the form that suits the target.

    Args:
        graph: the network; its nodes are changed.
        site: one of `find_sites`.
        target: the runtime.
        form: one of `forms_of` the site.
    """
    if form in ("tail", "epilogue"):
        _put_whole(graph, site, form)
    else:
        _put_gate(graph, site, target, form == "input")


def _put_gate(graph: Deployed, site: TailSite, target: Target, gate_first: bool) -> None:
    gate, inside = _gate_of(site, target, gate_first)
    source = site.map.all_input_nodes[0] if gate_first else site.map
    name = put_new_module(graph, f"{site.node.target}_gate", gate)
    with graph.fx_graph.inserting_before(site.node):
        operand = graph.fx_graph.call_module(name, (source,))
        # A variance taken outside has the map leave the blocked layout anyway.
        if _keeps_blocked(site, target) and (inside or not site.attention.needs_variance):
            spread = put_new_module(
                graph, f"{name}_spread", Spread(site.attention.channels, not inside).to(_like(graph))
            )
            operand = graph.fx_graph.call_module(spread, (operand, site.map))
    _integrate(graph.fx_graph, site, operand, target, gate_first)


def _gate_of(site: TailSite, target: Target, gate_first: bool) -> tuple[nn.Module, bool]:
    """The gate of a site, and whether its result is in the blocked layout of ONNX Runtime."""
    pool = means_blocked if _keeps_blocked(site, target) else means
    if gate_first:
        assert site.conv is not None
        assert site.layers is not None
        first = GateFirst(site.layers, site.conv, pool)
        blocked = blocked_first(first) if gate_stays_blocked(site, target) else None
        return (first, False) if blocked is None else (blocked, True)
    blocked = blocked_squares(site.attention, site.centre, site.size) if _keeps_blocked(site, target) else None
    return (Gate(site.attention, pool), False) if blocked is None else (blocked, True)


def _keeps_blocked(site: TailSite, target: Target) -> bool:
    """True if the map is to stay in the blocked layout: only where a ReLU follows is there a fusion to keep."""
    return target == "onnxruntime" and site.relu is not None


def _put_whole(graph: Deployed, site: TailSite, form: Form) -> None:
    """One module from the map, or from the convolution's input, and the shortcut to the end of the site."""
    relu, source = site.relu is not None, site.map
    if form == "epilogue":
        assert site.conv is not None
        assert site.layers is not None
        gate, source = GateFirst(site.layers, site.conv, means), site.map.all_input_nodes[0]
        tail: nn.Module = ConvTail(gate, site.conv, kind(site.attention) == "shift", relu)
    else:
        tail = Tail(site.attention, relu, without_bias(graph, site.map))
    name = put_new_module(graph, f"{site.node.target}_tail", tail)
    nodes = [node for node in (site.relu, site.add, site.node) if node is not None]
    with graph.fx_graph.inserting_before(nodes[0]):
        whole = graph.fx_graph.call_module(name, (source,) if site.add is None else (source, site.residual))
    nodes[0].replace_all_uses_with(whole)
    for node in nodes:
        graph.fx_graph.erase_node(node)


def _integrate(graph: fx.Graph, site: TailSite, operand: fx.Node, target: Target, gate_first: bool) -> None:
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
        enters: whether the gate comes from outside of the blocked layout.
    """

    def __init__(self, channels: int, enters: bool) -> None:
        super().__init__()
        self.enter: nn.Module = nn.Identity()
        if enters:
            self.enter = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
            nn.init.ones_(self.enter.weight)

    def forward(self, gate: Tensor, like: Tensor) -> Tensor:
        """The gate in the shape of the map ``like`` (N, C, H, W)."""
        return F.interpolate(self.enter(gate), scale_factor=tuple(map(float, like.shape[2:])), mode="nearest")


def work_in_place(graph: Deployed) -> None:
    """For eager: additions and ReLUs overwrite what no one else reads; a fresh map costs page faults each time."""
    for node in graph.fx_graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None or len(source.users) > 1 or not _owns_its_output(graph, source):
            continue
        if is_relu(graph, node):
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (source,), {}
        elif is_add(node) and node.args[0] is source:
            node.op, node.target = "call_function", operator.iadd


def _owns_its_output(graph: Deployed, node: fx.Node) -> bool:
    """True if a node makes a fresh tensor that is no view of another."""
    module = module_of(graph, node)
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
        return not is_observed(module)
    return is_add(node) or node.target in {torch.addcmul, operator.mul, torch.relu_}


def _like(graph: Deployed) -> Tensor:
    return next(graph.parameters())
