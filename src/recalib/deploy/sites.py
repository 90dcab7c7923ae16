"""Where in the graph attention sits, and what surrounds it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from recalib.attention import Attention
from recalib.deploy.deployed import Deployed
from recalib.deploy.gates import kind
from recalib.deploy.graph import CENTRE, is_plain, module_of
from recalib.deploy.layers import Layers, take_apart
from recalib.ops.capture import is_observed
from recalib.runtimes.base import Target as Target


@dataclass(frozen=True)
class TailSite:
    """A tail of the graph: ``[relu](attention(conv(h)) [+ residual])``.

    Attributes:
        node: the call of the attention module.
        attention: that module.
        conv: the 1x1 or 3x3 convolution whose output only this site reads, batch norm folded, or None.
        add: the addition that alone reads the site's output, or None.
        relu: the activation that alone reads the addition, or None.
        size: H*W of the map.
        centre: mean of each channel of the map over the data the network was trained on, (C,), where a norm knew it.
    """

    node: fx.Node
    attention: Attention
    conv: nn.Conv2d | None
    add: fx.Node | None
    relu: fx.Node | None
    size: int
    centre: Tensor | None

    @cached_property
    def layers(self) -> Layers | None:
        """The gate taken apart; None where it is not a gate on means, or cannot be."""
        return take_apart(self.attention)

    @property
    def map(self) -> fx.Node:
        """The node of the map u that attention reads."""
        return self.node.all_input_nodes[0]

    @property
    def residual(self) -> fx.Node:
        """The node of the shortcut; only where there is an addition."""
        assert self.add is not None
        return next(n for n in self.add.all_input_nodes if n is not self.node)


def find_sites(graph: Deployed, sizes: dict[fx.Node, torch.Size]) -> list[TailSite]:
    """Every attention on moments of maps (N, C, H, W) in the graph that integrates by a scale or by a shift.

    One that somebody hooked into, or that was not reached, is left as it is, as are those of maps of other dimensions.
    """
    found = []
    for node in graph.fx_graph.nodes:
        attention = module_of(graph, node)
        if not isinstance(attention, Attention) or is_observed(attention) or len(sizes.get(node, ())) != 4:
            continue
        if kind(attention) != "both":
            source = node.all_input_nodes[0]
            conv = module_of(graph, source) if len(source.users) == 1 else None
            centre = getattr(module_of(graph, source), CENTRE, None)
            add = _only_user(node, lambda n: _adds_two_maps(n, sizes))
            relu = _only_user(add, lambda n: is_relu(graph, n)) if add is not None else None
            h, w = sizes[node][2:]
            conv = conv if _is_linear_in_means(conv) else None
            found.append(TailSite(node, attention, conv, add, relu, h * w, centre))
    return found


def _only_user(node: fx.Node, wanted: Callable[[fx.Node], bool]) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and wanted(users[0]) else None


def _adds_two_maps(node: fx.Node, sizes: dict[fx.Node, torch.Size]) -> bool:
    """True if a node adds maps of one shape, as a shortcut is."""
    return is_add(node) and len({sizes.get(operand) for operand in node.all_input_nodes}) == 1


def is_add(node: fx.Node) -> bool:
    """True if a node is the plain sum of two others."""
    adds = {operator.add, operator.iadd, torch.add}
    called = node.target in adds if node.op == "call_function" else node.target in ("add", "add_")
    return called and len(node.all_input_nodes) == 2 and node.op != "call_module" and "alpha" not in node.kwargs


def is_relu(graph: Deployed, node: fx.Node) -> bool:
    """True if a node is a ReLU, as a module, function or method."""
    if isinstance(module_of(graph, node), nn.ReLU):
        return True
    return node.target in {torch.relu, torch.relu_, F.relu, "relu", "relu_"}


def _is_linear_in_means(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """True if the means of a convolution's output follow from means of its input."""
    if (
        not isinstance(conv, nn.Conv2d)
        or not is_plain(conv)
        or set(conv.stride) != {1}
        or conv.groups != 1
        or set(conv.dilation) != {1}
    ):
        return False
    shape = (conv.kernel_size, conv.padding)
    return shape in (((1, 1), (0, 0)), ((3, 3), (1, 1))) and conv.padding_mode == "zeros"
