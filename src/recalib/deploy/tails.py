"""Whole tails as one module, for eager mode: what a GPU's kernels do in one pass over the map."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from recalib.attention import Attention
from recalib.deploy.deployed import Deployed
from recalib.deploy.gates import GateFirst
from recalib.deploy.graph import finish, module_of, put_new_module
from recalib.deploy.sites import is_add, is_relu
from recalib.ops import recalibrate
from recalib.ops.capture import is_observed
from recalib.ops.gemm import recalibrated_conv
from recalib.ops.norm import Bias


class Tail(nn.Module):
    """Attention, addition and ReLU behind a convolution in the launches of a remembered plan, see `recalib.ops.plans`.

    Args:
        attention: what the site has; None for a block without.
        relu: whether it ends in a ReLU.
        bias: of the convolution, which no longer adds it: a pass of its own in PyTorch, none here.
    """

    def __init__(self, attention: Attention | None, relu: bool, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.attention = attention
        self.norm = None if bias is None else Bias(bias)
        self.activation: Literal["relu", "none"] = "relu" if relu else "none"

    def forward(self, u: Tensor, residual: Tensor | None = None) -> Tensor:
        """The block's output (N, C, H, W) from the convolution's, u."""
        return recalibrate(u, self.norm, self.attention, residual, self.activation)


def fuse_plain_(graph: Deployed) -> Deployed:
    """Put additions and ReLUs behind convolutions into one pass, the convolutions' biases in it; the graph is changed.

    A baseline for attention that is fused: where PyTorch moves 7 maps in 3 launches, this moves 3 in one. Not done by
    `deploy`, since its Python takes longer than that of the operators, which matters where maps are small.
    """
    for relu in list(graph.fx_graph.nodes):
        add = relu.all_input_nodes[0] if is_relu(graph, relu) and relu.all_input_nodes else None
        if add is None or not is_add(add) or len(add.users) > 1:
            continue
        convs = [node for node in add.all_input_nodes if own_convolution(graph, node) is not None]
        if not convs:
            continue
        residual = next(node for node in add.all_input_nodes if node is not convs[0])
        biases: list[Tensor] = [bias for conv in convs if (bias := without_bias(graph, conv)) is not None]
        bias = nn.Parameter(torch.stack(biases).sum(0), requires_grad=False) if biases else None
        name = put_new_module(graph, f"{convs[0].target}_tail", Tail(None, True, bias))
        with graph.fx_graph.inserting_before(relu):
            relu.replace_all_uses_with(graph.fx_graph.call_module(name, (convs[0], residual)))
        for node in (relu, add):
            graph.fx_graph.erase_node(node)
    finish(graph)
    return graph


def own_convolution(graph: Deployed, node: fx.Node) -> nn.Conv2d | None:
    """The convolution that a node calls, where nobody else calls it or reads what it gives, or hooked into it."""
    conv = module_of(graph, node)
    calls = sum(other.target == node.target for other in graph.fx_graph.nodes if other.op == "call_module")
    alone = calls == 1 and len(node.users) == 1
    return conv if alone and isinstance(conv, nn.Conv2d) and not is_observed(conv) else None


def without_bias(graph: Deployed, node: fx.Node) -> nn.Parameter | None:
    """The bias of a node's own convolution, which is taken out of it; None where there is none to take."""
    conv = own_convolution(graph, node)
    if conv is None or conv.bias is None:
        return None
    bias: Any = conv.bias
    conv.bias = None
    return cast("nn.Parameter", bias)


class ConvTail(nn.Module):
    """A 1x1 convolution with its tail in the epilogue: gate first, so no map is written before the block's output.

    Args:
        gate: computes scale or shift from the convolution's input.
        conv: the convolution, batch norm folded.
        shifts: whether the gate is a shift.
        relu: whether it ends in a ReLU.
    """

    def __init__(self, gate: GateFirst, conv: nn.Conv2d, shifts: bool, relu: bool) -> None:
        super().__init__()
        self.gate = gate
        self.conv = conv
        self.shifts = shifts
        self.relu = relu

    def forward(self, h: Tensor, residual: Tensor | None = None) -> Tensor:
        """The block's output (N, C, H, W) from the convolution's input h (N, C_in, H, W)."""
        values = self.gate.values(h)
        scale, shift = (None, values) if self.shifts else (values, None)
        weight = self.conv.weight.flatten(1).to(h.dtype)  # autocast knows torch's own operators only
        bias = None if self.conv.bias is None else self.conv.bias.to(h.dtype)
        return recalibrated_conv(h, weight, bias, scale, shift, residual, self.relu)
