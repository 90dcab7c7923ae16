"""Sees what a network runs: every operation, and the modules it runs in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recalib.cost.conventions import Convention, Operation
from recalib.ops import gemm  # noqa: F401  registers the operator that is counted below


class Meter(TorchDispatchMode):
    """Sees every operation of a network, and knows by hooks which modules it runs in.

    Args:
        model: the network.
        convention: decides what counts as a FLOP.

    Attributes:
        within: for each module by name, ``macs``, ``flops`` and ``bytes_moved`` of all that ran inside it.
        own: the same, of what ran in the module itself and not in a module it calls.
    """

    def __init__(self, model: nn.Module, convention: Convention) -> None:
        from torch.utils.flop_counter import flop_registry  # a slow import

        super().__init__()
        self.formulas = {**flop_registry, torch.ops.recalib.recalibrated_conv: _recalibrated_conv}
        self.convention = convention
        self.names = {module: name for name, module in model.named_modules()}
        self.running = [""]
        self.settled_by: str | None = None  # the running module whose FLOPs the convention has already counted
        self.within: dict[str, Counter[str]] = {name: Counter() for name in self.names.values()}
        self.own: dict[str, Counter[str]] = {name: Counter() for name in self.names.values()}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Count what runs within."""
        hooks = register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module not in self.names:
            return
        self.running.append(self.names[module])
        if self.settled_by is None and inputs and isinstance(inputs[0], Tensor):
            flops = self.convention.module(module, inputs[0].shape)
            if flops is not None:
                self._add(flops=flops)
                self.settled_by = self.running[-1]

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module in self.names and self.running.pop() == self.settled_by:
            self.settled_by = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not _moves_nothing(func):
            operation = self._describe(func, args, kwargs, out)
            flops = 0 if self.settled_by is not None else self.convention.operation(operation)
            self._add(macs=operation.macs, flops=flops, bytes_moved=_traffic(func, args, kwargs, out))
        return out

    def _describe(self, func: Any, args: Any, kwargs: Any, out: Any) -> Operation:
        formula = self.formulas.get(func._overloadpacket)
        sizes = [t.numel() for t in _tensors((args, kwargs))]
        return Operation(
            name=_name(func),
            macs=formula(*args, **kwargs, out_val=out) // 2 if formula else 0,
            inputs=max(sizes, default=0),
            outputs=next((t.numel() for t in _tensors(out)), 0),
        )

    def _add(self, **counts: int) -> None:
        self.own[self.running[-1]].update(counts)
        for name in set(self.running):
            self.within[name].update(counts)


def _recalibrated_conv(h: Tensor, weight: Tensor, *_: Any, out_val: Tensor) -> int:
    """FLOPs of the product in `recalib.ops.gemm`, as torch's formulas state those of its convolutions."""
    return 2 * out_val.numel() * weight.shape[1]


def _name(func: Any) -> str:
    name: str = func._schema.name
    return name.removeprefix("aten::").removesuffix("_")


def _moves_nothing(func: Any) -> bool:
    return (
        func.is_view
        or torch.Tag.inplace_view in func.tags
        or func.namespace == "prim"
        or _name(func) in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")
    )


def _traffic(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    overwrites = _name(func) in ("copy", "fill", "zero") and func._schema.is_mutable
    read = _tensors((args[1:] if overwrites else args, kwargs))
    written = _tensors(out)
    if "batch_norm" in _name(func):
        written = written[:1]  # the rest is for a backward pass, and its size depends on the device
    return sum(map(_bytes, read)) + sum(map(_bytes, written))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements; a broadcast or overlapping view has fewer than its shape says."""
    if tensor.numel() == 0:
        return 0
    extent = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return min(tensor.numel(), extent) * tensor.element_size()
