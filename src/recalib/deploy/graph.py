"""The network as a graph: tracing, folding of batch norms, removal of what does nothing at inference."""

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from recalib.attention import Attention, PlainAttention

NOTHING_AT_INFERENCE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

CENTRE = "centre"
"""Buffer of a convolution that took in a batch norm: the norm's bias, the mean of what it gave in training."""

NORMS_BY_NAME = ("FrozenBatchNorm2d", "BatchNormAct2d")  # torchvision's and timm's, not imported for a name


class Tracer(fx.Tracer):
    """Sees a network down to torch's own layers and to attention modules, which stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module becomes one node."""
        if isinstance(m, (Attention, PlainAttention)) or type(m).__name__ in NORMS_BY_NAME:
            return True
        return super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """Graph of a copy of the model in evaluation mode.

    Raises:
        fx.proxy.TraceError, TypeError, ...: whatever control flow over data raises in symbolic tracing.
    """
    model = copy.deepcopy(model).eval()
    graph = Tracer().trace(model)
    return fx.GraphModule(model, graph, type(model).__name__)


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, or None where it calls none."""
    if node.op == "call_module":
        return graph.get_submodule(str(node.target))
    return None


def put_module(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    """Set the submodule of a dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(graph.get_submodule(parent), leaf, module)


def put_new_module(graph: fx.GraphModule, name: str, module: nn.Module) -> str:
    """Set a submodule under a dotted name, numbered where a second call of the same module wants one too; that name."""
    taken, free, number = dict(graph.named_modules()), name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    put_module(graph, free, module)
    return free


def drop_no_ops(graph: fx.GraphModule) -> None:
    """Take out dropout and identities."""
    for node in list(graph.graph.nodes):
        if isinstance(module_of(graph, node), NOTHING_AT_INFERENCE):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def fold_batch_norms(graph: fx.GraphModule) -> None:
    """Fold every batch norm that alone reads a convolution into that convolution; exact at inference."""
    for node in list(graph.graph.nodes):
        affine = _norm_affine(module_of(graph, node))
        if affine is None:
            continue
        source = node.all_input_nodes[0]
        conv = module_of(graph, source)
        if not isinstance(conv, nn.Conv2d) or len(source.users) > 1:
            continue
        folded = copy.deepcopy(conv)  # a convolution that is used twice keeps its own weights
        folded.weight, folded.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *affine)
        centre = torch.zeros_like(folded.bias) if affine[-1] is None else affine[-1].detach()
        folded.register_buffer(CENTRE, centre, persistent=False)
        name = f"{source.target}_folded_{node.name}"
        put_module(graph, name, folded)
        source.target = name
        if type(module_of(graph, node)).__name__ == "BatchNormAct2d":
            put_module(graph, f"{name}_act", module_of(graph, node).act)  # type: ignore[union-attr, arg-type]
            node.target = f"{name}_act"
            continue
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)


def _norm_affine(norm: nn.Module | None) -> tuple[Any, ...] | None:
    """Running mean and variance, eps, weight and bias of a norm that is a per-channel affine at inference."""
    known = isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)) or type(norm).__name__ in NORMS_BY_NAME
    if norm is None or not known or norm.running_mean is None:
        return None
    return norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias


def simplify(graph: fx.GraphModule) -> fx.GraphModule:
    """What holds for every target: nothing idle stays, and no batch norm that a convolution can take in."""
    drop_no_ops(graph)
    fold_batch_norms(graph)
    drop_no_ops(graph)  # the activation of a norm that has none
    return finish(graph)


def finish(graph: fx.GraphModule) -> fx.GraphModule:
    """Check and recompile a graph after its nodes were changed, without the modules it no longer calls."""
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def constant(tensor: torch.Tensor) -> nn.Parameter:
    """A tensor as a parameter that no optimizer should see."""
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)
