"""Models that it is too late for: wrapped, compiled, scripted or quantised."""

import torch
from torch import nn

from recalib.errors import RecalibError

WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "FSDPModule")


def refuse_finished(model: nn.Module, verb: str) -> None:
    """Do nothing for a model that can still be changed.

    Args:
        model: whatever the caller gave.
        verb: the function that wants to change it.

    Raises:
        RecalibError: for one that is wrapped, compiled, scripted, quantised or not yet made, saying what comes first,
            and for what is no module.
    """
    require_module(model, verb)
    if is_handle(model):
        raise RecalibError(f"{type(model).__name__} holds a network: call {verb} on its .model")
    for module in model.modules():
        if any(nn.parameter.is_lazy(p) for p in module._parameters.values() if p is not None):
            raise RecalibError(f"{type(module).__name__} is not made yet: run the model on an input, then call {verb}")
        kind = type(module)
        if kind.__module__.startswith("torch.") and ".quantized" in kind.__module__ and "Float" not in kind.__name__:
            raise RecalibError(f"the model is quantised: call {verb} first, then quantise")
        ancestry = {cls.__name__ for cls in type(module).__mro__}
        wrapper = next((name for name in WRAPPERS if name in ancestry), None)
        if wrapper is not None:
            raise RecalibError(f"the model is wrapped in {wrapper}: call {verb} first, then wrap")
        if "OptimizedModule" in ancestry or module._compiled_call_impl is not None:
            raise RecalibError(f"the model is compiled: call {verb} first, then torch.compile")
        if isinstance(module, torch.jit.ScriptModule):
            raise RecalibError(f"the model is scripted: call {verb} first, then torch.jit.script")


def require_module(model: object, verb: str) -> None:
    """Do nothing for a module.

    Raises:
        RecalibError: for something else, such as a network's name.
    """
    if not isinstance(model, nn.Module):
        raise RecalibError(
            f"{verb} takes an nn.Module, got {model!r:.60}; recalib.models.create_model makes one of a name"
        )


def is_handle(model: nn.Module) -> bool:
    """True if a module is ultralytics' ``YOLO``: its network is inside, and its ``train`` is not that of a module."""
    return any(f"{c.__module__}.{c.__name__}" == "ultralytics.engine.model.Model" for c in type(model).__mro__)
