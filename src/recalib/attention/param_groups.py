"""Parameter groups for an optimizer: what a module marks is not decayed."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)


def param_groups(model: nn.Module, weight_decay: float, *, decay_norms_and_biases: bool = True) -> list[dict[str, Any]]:
    """Groups for ``torch.optim``: one decayed, one not.

    Args:
        model: any network; the classes of its modules mark parameters by ``no_weight_decay`` (SRM's parameters, GCT's
            beta, the blends of identity starts).
        weight_decay: of the decayed group.
        decay_norms_and_biases: False leaves norms' parameters and all biases out as well.

    Returns:
        ``[{"params": ..., "weight_decay": weight_decay}, {"params": ..., "weight_decay": 0.0}]``; trainable parameters
        only, each once, and no empty group.
    """
    spared = {id(p) for p in _marked(model)}
    if not decay_norms_and_biases:
        spared |= {id(p) for p in _norms_and_biases(model)}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _marked(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        names: object = getattr(type(module), "no_weight_decay", None)
        if isinstance(names, frozenset):  # timm's models have a method of this name
            yield from (p for name, p in module.named_parameters() if name in names)


def _norms_and_biases(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if name == "bias" or isinstance(module, NORMS):
                yield p
