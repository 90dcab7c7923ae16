"""A copy of a network for inference, in the form that its runtime runs fastest."""

import copy
from collections.abc import Sequence
from typing import get_args

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from recalib.deploy.forms import Form, form_by_rule, forms_of
from recalib.deploy.graph import finish, simplify, trace
from recalib.deploy.rewrite import rewrite, work_in_place
from recalib.deploy.sites import Site, Target, find_sites
from recalib.errors import RecalibError, WorkFailed, unknown


def deploy(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    target: Target = "eager",
    measure: bool = False,
) -> nn.Module:
    """A copy of a network for inference; the same function, exact up to rounding.

    Batch norms are folded into convolutions. Attention after a 1x1 convolution is computed from that convolution's
    input where reading it is cheaper (see `gate_first_pays`), and takes the form that the target's own fusions leave
    whole. A part of the network that symbolic tracing cannot see through is copied as it is.

    Args:
        model: any network; it is not changed. On a GPU in eager mode some forms run kernels of this package, so a
            network for a GPU is best deployed there.
        input_size: (N, C, H, W) of the images it will see, (1, 3, 224, 224) by default. The choice of forms depends on
            it, not the function, except for ``"onnxruntime"``, whose form holds for this H and W.
        target: the runtime, ``"eager"``, ``"compile"``, ``"onnxruntime"``, ``"openvino"`` or ``"tensorrt"``.
        measure: choose the form of each kind of site by timing whole networks in the target, not by the rule.

    Returns:
        An ``nn.Module`` in evaluation mode whose parameters need no gradient.

    Raises:
        RecalibError: for an unknown target or an input size that is none.
        WorkFailed: for a network that does not run on this input.

    Example::

        >>> deployed = deploy(model, (1, 3, 224, 224), target="openvino")
    """
    if target not in get_args(Target):
        raise unknown("target", target, get_args(Target))
    size = tuple(input_size or (1, 3, 224, 224))
    if len(size) != 4 or min(size) < 1:
        raise RecalibError(f"input_size={input_size}: deploy takes (N, C, H, W), such as (1, 3, 224, 224)")
    try:
        graph = trace(model)
    except Exception:  # control flow over data: whatever it raises, this network is not one graph
        return _fold_parts(model)
    simplify(graph)
    example = _example(graph, size)
    if measure:
        from recalib.deploy.measure import choose

        return choose(graph, example, target)
    return assemble(graph, example, target, {})


def assemble(
    graph: fx.GraphModule, example: torch.Tensor, target: Target, choices: dict[tuple[int, int], Form]
) -> fx.GraphModule:
    """The network with every site in its form.

    Args:
        graph: traced and folded; it is changed.
        example: an input (N, C, H, W).
        target: the runtime.
        choices: a form by (channels, H*W) of a site; where it says nothing that the site can take, the rule decides.
    """
    for site in sites_of(graph, example):
        form = choices.get(key(site))
        if form is None or form not in forms_of(site, target):
            form = form_by_rule(site, target, example.device)
        rewrite(graph, site, target, form)
    if target == "eager":
        work_in_place(graph)
    return finish(graph).requires_grad_(False)


def key(site: Site) -> tuple[int, int]:
    """What sites of the same kind share: channels and H*W."""
    return site.attention.channels, site.size


def sites_of(graph: fx.GraphModule, example: torch.Tensor) -> list[Site]:
    """Sites of a graph at this input.

    Raises:
        WorkFailed: where the network does not run on it.
    """
    try:
        with torch.inference_mode():
            ShapeProp(graph).propagate(example)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkFailed(f"the network does not run on an input of {tuple(example.shape)}: {reason}") from None
    sizes = {node: node.meta["tensor_meta"].shape for node in graph.graph.nodes if _is_map(node)}
    return find_sites(graph, sizes)


def _is_map(node: fx.Node) -> bool:
    return isinstance(getattr(node.meta.get("tensor_meta"), "shape", None), torch.Size)


def _example(graph: nn.Module, size: tuple[int, ...]) -> torch.Tensor:
    like = next(graph.parameters(), torch.empty(0))
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(like)


def _fold_parts(model: nn.Module) -> nn.Module:
    """A copy whose traceable parts have their batch norms folded."""
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_children(copied)
    return copied


def _fold_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if not any(child.children()):
            continue
        try:
            graph = trace(child)
        except Exception:
            _fold_children(child)
            continue
        setattr(module, name, simplify(graph).requires_grad_(False))
