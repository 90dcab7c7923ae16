"""Tails at inference from a remembered plan: what to launch is found out once, for a gate and a kind of map.

A tail of three launches costs a GPU some microseconds, and Python several hundred to describe: what the gate computes,
how the map is cut, which variant of a kernel was compiled. None of that changes from one call to the next, so a plan
keeps it, and a call is the allocation of its result and the launches.

A plan holds for maps of one shape, type, layout, alignment and device, and as long as the tensors that its kernels read
are where they were, nobody has hooked into the gate and no norm is in training: all of which every call checks. Numbers
of a module that are no tensors (an epsilon, a kernel size) are those of the first call.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all
from torch.nn.modules.batchnorm import _BatchNorm

from recalib.ops import passes
from recalib.ops.capture import is_recorded, is_transformed

_MOST = 64  # plans of a gate; where maps come in more shapes than that it starts anew
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOKS_OF_ALL = tuple(
    vars(hooks_of_all)[name] for name in sorted(vars(hooks_of_all)) if name.startswith("_global_") and "hooks" in name
)


class LaunchPlan:
    """Launches, and what they rely on.

    Args:
        launches: of a tail, see `recalib.ops.plans_triton`.
        norm: of the tail, or None.
        modules: whose tensors the launches read.
    """

    def __init__(self, launches: Any, norm: nn.Module | None, modules: list[nn.Module]) -> None:
        self.launches = launches
        self.norm = norm
        tensors: list[Tensor] = launches.tensors
        self._hooks = (*_HOOKS_OF_ALL, *(getattr(m, name) for m in modules for name in _HOOKS))
        self._norms = [m for m in modules if isinstance(m, _BatchNorm)]
        self._places = list(_places(modules, tensors))
        self._pointers = [t.data_ptr() for t in tensors]
        self.complete = {id(t) for t in tensors} == {id(t) for _, _, t in self._places}

    def holds(self) -> bool:
        """True if everything is as it was."""
        for registry, name, tensor in self._places:
            if registry.get(name) is not tensor:
                return False
        for norm in self._norms:
            if norm.training:
                return False
        return [t.data_ptr() for t in self.launches.tensors] == self._pointers and not any(self._hooks)


_PLANS: WeakKeyDictionary[nn.Module, dict[Any, LaunchPlan]] = WeakKeyDictionary()


def recall(
    x: Tensor, norm: nn.Module | None, gate: nn.Module | None, residual: Tensor | None, relu: bool
) -> Tensor | None:
    """The output of a tail that has a plan; None where there is none that holds, or where more than values is wanted.

    For a map x on a device that has kernels, in a call that is not recorded; the others are not asked for here.
    """
    owner = norm if gate is None else gate
    plans = None if owner is None else _PLANS.get(owner)
    if plans is None or not _wants_values_only(x, residual):
        return None
    plan = plans.get(_key(x, residual, relu))
    if plan is None or plan.norm is not norm or not plan.holds():
        return None
    if torch.is_grad_enabled() and _has_gradients(x, residual, plan.launches.tensors):
        return None
    return plan.launches(x, residual)


def first(
    x: Tensor, norm: nn.Module | None, gate: nn.Module | None, residual: Tensor | None, relu: bool
) -> Tensor | None:
    """The same without a plan, which is made and kept; None where the tail has to go through operators.

    For a map x that is not empty, a norm that is affine and a gate on moments, both unobserved.
    """
    owner = norm if gate is None else gate
    if owner is None or not passes.has_kernels(x) or is_recorded() or not _wants_values_only(x, residual):
        return None
    if torch.is_grad_enabled() and _has_gradients(x, residual, [*_tensors(gate), *_tensors(norm)]):
        return None
    from recalib.ops import plans_triton  # imports triton, which takes its time

    launches = plans_triton.plan(x, norm, gate, residual, relu)
    if launches is None:
        return None
    y = launches(x, residual)
    found = LaunchPlan(launches, norm, [m for whole in (gate, norm) if whole is not None for m in whole.modules()])
    if found.complete:
        plans = _PLANS.setdefault(owner, {})
        if len(plans) >= _MOST:
            plans.clear()
        plans[_key(x, residual, relu)] = found
    return y


def _key(x: Tensor, residual: Tensor | None, relu: bool) -> tuple[Any, ...]:
    """Key of the variant of a kernel that runs, and of its grid."""
    if residual is None:
        return x.shape, x.stride(), x.dtype, x.data_ptr() % 16, x.get_device(), relu
    return (
        x.shape,
        x.stride(),
        x.dtype,
        x.data_ptr() % 16,
        x.get_device(),
        relu,
        residual.shape,
        residual.stride(),
        residual.dtype,
        residual.data_ptr() % 16,
        residual.get_device(),
    )


def _wants_values_only(x: Tensor, residual: Tensor | None) -> bool:
    """True if a call is about plain tensors, and neither transformed nor watched."""
    return type(x) is Tensor and (residual is None or type(residual) is Tensor) and not is_transformed()


def _has_gradients(x: Tensor, residual: Tensor | None, tensors: list[Tensor]) -> bool:
    if x.requires_grad or (residual is not None and residual.requires_grad):
        return True
    return any(t.requires_grad for t in tensors)


def _tensors(module: nn.Module | None) -> list[Tensor]:
    return [] if module is None else [*module.parameters(), *module.buffers()]


def _places(modules: list[nn.Module], tensors: list[Tensor]) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Where in modules tensors are registered."""
    wanted = {id(t) for t in tensors}
    for module in modules:
        for registry in (module._parameters, module._buffers):
            for name, tensor in registry.items():
                if tensor is not None and id(tensor) in wanted:
                    yield registry, name, tensor
