"""The network as a graph: tracing, folding of batch norms, removal of what does nothing at inference."""

import copy
from collections import Counter
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from recalib.deploy.deployed import NORMS_BY_NAME, Deployed, Folded, references, set_graph, traced
from recalib.ops.capture import is_observed
from recalib.ops.norm import is_affine

NOTHING_AT_INFERENCE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

CENTRE = "centre"
"""Buffer of a convolution that took in a batch norm: the norm's bias, the mean of what it gave in training."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def trace(model: nn.Module) -> Deployed:
    """A copy of the model in evaluation mode that runs its graph.

    Raises:
        fx.proxy.TraceError, TypeError, ...: whatever control flow over data raises in symbolic tracing.
    """
    copied = copy.deepcopy(model).eval()
    return set_graph(copied, traced(copied))


def module_of(graph: Deployed, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, or None where it calls none."""
    if node.op == "call_module":
        return graph.get_submodule(str(node.target))
    return None


def shapes_of(graph: Deployed, *inputs: Any) -> dict[fx.Node, torch.Size]:
    """Shape of every tensor that a graph makes of these inputs."""
    run = _Shapes(graph, graph=graph.fx_graph)
    with torch.no_grad():
        run.run(*inputs)
    return run.seen


class _Shapes(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.seen: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.seen[n] = result.shape
        return result


def put_module(graph: Deployed, name: str, module: nn.Module) -> None:
    """Set the submodule of a dotted name."""
    parent, _, leaf = name.rpartition(".")
    graph.get_submodule(parent).add_module(leaf, module)


def put_new_module(graph: Deployed, name: str, module: nn.Module) -> str:
    """Set a submodule under a dotted name, numbered where a second call of the same module wants one too; that name."""
    taken, free, number = dict(graph.named_modules()), name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    put_module(graph, free, module)
    return free


def drop_no_ops(graph: Deployed) -> None:
    """Take out dropout and identities."""
    for node in list(graph.fx_graph.nodes):
        module = module_of(graph, node)
        if isinstance(module, NOTHING_AT_INFERENCE) and not is_observed(module):
            node.replace_all_uses_with(node.args[0])
            graph.fx_graph.erase_node(node)


def fold_batch_norms(graph: Deployed, names: Counter[int] | None = None) -> int:
    """Fold every batch norm that alone reads a convolution into that convolution; exact at inference.

    A convolution takes in its norm where it stands, and a `Folded` takes the norm's place. One that is called twice,
    or has more names than one, keeps its own weights: the graph then calls a copy.

    Args:
        graph: changed.
        names: `references` of the network that this is a part of.

    Returns:
        Number of norms.
    """
    names, folded = names or references(graph), 0
    calls = Counter(node.target for node in graph.fx_graph.nodes if node.op == "call_module")
    for node in list(graph.fx_graph.nodes):
        norm = module_of(graph, node)
        affine = _norm_affine(norm)
        if norm is None or affine is None:
            continue
        source = node.all_input_nodes[0]
        conv = module_of(graph, source)
        if not _takes_norms(conv) or len(source.users) > 1:
            continue
        folded += 1
        name = str(source.target)
        alone = all(calls[n.target] == 1 and names[id(module_of(graph, n))] == 1 for n in (node, source))
        if not alone:
            conv, name = copy.deepcopy(conv), f"{source.target}_folded_{node.name}"
            put_module(graph, name, conv)
            source.target = name
        mean, var, eps, weight, bias = affine
        transpose = isinstance(conv, TRANSPOSED)
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, var, eps, weight, bias, transpose)
        conv.requires_grad_(False)
        centre = torch.zeros_like(conv.bias) if bias is None else bias.detach()
        conv.register_buffer(CENTRE, centre, persistent=False)
        act = getattr(norm, "act", None)
        if alone:
            left: nn.Module = Folded(norm) if act is None or isinstance(act, nn.Identity) else act
            put_module(graph, str(node.target), left)
        if act is not None:
            if not alone:
                put_module(graph, f"{name}_act", act)
                node.target = f"{name}_act"
            continue
        node.replace_all_uses_with(source)
        graph.fx_graph.erase_node(node)
    return folded


def is_plain(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """True if a module is a convolution of any dimension by the very weights that it holds.

    Not one that standardises its weights, makes them from others or fakes a quantisation.
    """
    if not isinstance(conv, CONVOLUTIONS) or nn.utils.parametrize.is_parametrized(conv) or is_observed(conv):
        return False
    kind = type(conv)
    return any(kind.forward is c.forward and kind._conv_forward is c._conv_forward for c in CONVOLUTIONS)


def _takes_norms(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    if isinstance(conv, TRANSPOSED):
        return any(type(conv) is kind for kind in TRANSPOSED) and conv.groups == 1 and not is_observed(conv)
    padded = isinstance(conv, nn.Conv2d) and type(conv).__name__ == "Conv2dSame"  # timm's, of TensorFlow
    return is_plain(conv) or (padded and conv is not None and not is_observed(conv))


def _norm_affine(norm: nn.Module | None) -> tuple[Any, ...] | None:
    """Running mean and variance, eps, weight and bias of a norm that is a per-channel affine at inference."""
    if norm is None or is_observed(norm) or not (is_affine(norm) or type(norm).__name__ in NORMS_BY_NAME):
        return None
    if norm.running_mean is None:
        return None
    return norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias


def simplify(graph: Deployed, names: Counter[int] | None = None) -> Deployed:
    """Rewrites for every target: nothing idle stays, and no batch norm that a convolution can take in."""
    drop_no_ops(graph)
    fold_batch_norms(graph, names)
    drop_no_ops(graph)  # the activation of a norm that has none
    return finish(graph)


def finish(graph: Deployed) -> Deployed:
    """Check a graph after its nodes were changed, and run it from now on."""
    graph.fx_graph.eliminate_dead_code()
    graph.fx_graph.lint()
    return set_graph(graph, graph.fx_graph)


def constant(tensor: torch.Tensor) -> nn.Parameter:
    """A tensor as a parameter that no optimizer should see."""
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)
