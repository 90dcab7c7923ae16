"""The end of the residual branch in blocks that nobody has described, found in the graph of their forward."""

import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
SCALINGS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")


def traced_branches(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Residual blocks of a network: name of the block, and name and module of the last layer of its branch.

    A residual block is a module whose output is a sum, possibly followed by an activation. Of the two summands the
    branch is the one that passes through more layers with weights; its end is the last of these, and what comes after
    (an activation, a scale, drop-path) has none. Modules whose forward cannot be traced are no blocks.
    """
    for name, block in model.named_modules():
        if type(block).__module__.startswith("torch.nn."):
            continue
        try:
            graph = _OneLevel().trace(copy.copy(block))  # a forward may leave what it sees in an attribute
        except Exception:  # whatever control flow over a symbolic value raises
            continue
        end = _branch_end(block, graph)
        if end is not None:
            yield name, f"{name}.{end}".removeprefix("."), block.get_submodule(end)


class _OneLevel(fx.Tracer):
    proxy_buffer_attributes = True  # so that a forward that counts calls in a buffer does not count this one

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _branch_end(block: nn.Module, graph: fx.Graph) -> str | None:
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    total = _before_weightless(block, output)
    summands = [node for node in total.args if isinstance(node, fx.Node)] if isinstance(total, fx.Node) else []
    if len(summands) != 2 or total.target not in ADDITIONS:
        return None
    shortcut, branch = sorted(summands, key=lambda node: _depth(block, node))
    end = _before_weightless(block, branch, scales=True)
    if _depth(block, branch) == _depth(block, shortcut) or end.op != "call_module":
        return None
    uses = [node for node in graph.nodes if node.op == "call_module" and node.target == end.target]
    return str(end.target) if len(uses) == 1 else None


def _before_weightless(block: nn.Module, node: Any, scales: bool = False) -> Any:
    """The nearest node before this one that is more than an activation, drop-path or, where asked, a scale."""
    while isinstance(node, fx.Node):
        data = [source for source in node.all_input_nodes if source.op != "get_attr"]
        module = _module(block, node)
        weightless = module is not None and not _weighted(module)
        is_scale = node.target in SCALINGS or "LayerScale" in type(module).__name__
        if len(data) != 1 or not (weightless or (scales and is_scale)):
            break
        node = data[0]
    return node


def _depth(block: nn.Module, node: fx.Node) -> int:
    """Number of layers with weights among all that a value comes from."""
    found: set[nn.Module] = set()
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        found.update(_weighted(_module(block, current)))
        todo += [source for source in current.all_input_nodes if source not in seen]
        seen.update(todo)
    return len(found)


def _weighted(module: nn.Module | None) -> list[nn.Module]:
    """The layers in a module that have parameters, or buffers as frozen norms do."""
    inside = [] if module is None else module.modules()
    return [layer for layer in inside if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]]


def _module(block: nn.Module, node: fx.Node) -> nn.Module | None:
    return block.get_submodule(str(node.target)) if node.op == "call_module" else None
