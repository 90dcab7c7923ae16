"""A traced network run node by node, so that what comes before a site is computed once for all that is tried there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn

from recalib.deploy.deployed import Deployed

Values = dict[fx.Node, Any]


class Walk(fx.Interpreter):
    """A network in evaluation mode, from the images or from one of its nodes on.

    Args:
        graph: traced; its modules may be replaced meanwhile, its nodes not.
    """

    def __init__(self, graph: Deployed) -> None:
        super().__init__(graph, graph=graph.fx_graph)
        self.nodes = list(graph.fx_graph.nodes)
        self.place = {node: i for i, node in enumerate(self.nodes)}
        last = {node: max(map(self.place.__getitem__, node.users), default=-1) for node in self.nodes}
        self.last = last

    def logits(self, images: Tensor, see: Callable[[fx.Node, Any], None] | None = None) -> Tensor:
        """Logits of images (N, 3, H, W).

        Args:
            images: the input.
            see: is shown the first operand of every node that has one, before it runs.
        """
        return self._onward(0, {}, images, see)

    def tries(
        self, images: Tensor, tried: Mapping[fx.Node, Sequence[nn.Module]]
    ) -> Iterator[tuple[fx.Node, int, Tensor]]:
        """Logits with a single node replaced, for each replacement of each node; the part before it runs once.

        Args:
            images: the input.
            tried: modules that may stand for a node's own, each a function of the node's first operand.
        """
        self.args_iter, self.env = iter([images]), {}
        for i, node in enumerate(self.nodes):
            if tried.get(node):
                kept = {other: _copy(value) for other, value in self.env.items() if self.last[other] >= i}
                for j, module in enumerate(tried[node]):
                    before = {other: _copy(value) for other, value in kept.items()}
                    before[node] = module(before[node.all_input_nodes[0]])
                    yield node, j, self._onward(i + 1, before)
                self.env = kept
            if node.op == "output":
                return
            self.env[node] = self.run_node(node)
            self._forget(i)

    def _onward(
        self, start: int, env: Values, images: Tensor | None = None, see: Callable[[fx.Node, Any], None] | None = None
    ) -> Tensor:
        self.env = env
        if images is not None:
            self.args_iter = iter([images])
        for i in range(start, len(self.nodes)):
            node = self.nodes[i]
            if see is not None and node.all_input_nodes:
                see(node, self.env[node.all_input_nodes[0]])
            self.env[node] = self.run_node(node)
            self._forget(i)
        logits: Tensor = self.env[self.nodes[-1]]
        return logits

    def _forget(self, i: int) -> None:
        for node in self.nodes[i].all_input_nodes:
            if self.last[node] <= i:
                self.env.pop(node, None)


def _copy(value: Any) -> Any:
    """Operators that overwrite their operand must not reach what others will start from."""
    return value.clone() if isinstance(value, Tensor) else value
