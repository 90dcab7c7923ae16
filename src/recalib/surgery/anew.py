"""Networks that a framework builds anew from a configuration, which knows nothing of attention that was inserted.

ultralytics' trainer makes a second model from ``model.yaml`` and loads the first one's weights into it: attention
would be lost without a word. So a network with attention has a configuration that nobody can build from.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from recalib.errors import RecalibError


class AttendedYaml(dict[str, Any]):
    """``model.yaml`` of a network with attention: reads as the plain one, and refuses to become another network.

    The first thing that building does is to write down the number of channels.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "channels":
            raise RecalibError(
                "this YOLO has attention, which a model built from its yaml would lose; "
                "train it with YOLO(...).train(trainer=recalib.integrations.ultralytics.trainer(...), ...)"
            )
        super().__setitem__(key, value)

    def __reduce__(self) -> Any:
        return AttendedYaml, (dict(self),)


def _configured(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module.__dict__.get("yaml"), dict) and type(module).__module__.startswith("ultralytics."):
            yield module


def guard(model: nn.Module) -> None:
    """Give the network of ultralytics in a model, if there is one, a configuration that keeps its attention."""
    for network in _configured(model):
        network.yaml = AttendedYaml(network.yaml)  # type: ignore[arg-type, assignment]


def unguard(model: nn.Module) -> None:
    """Undo `guard`."""
    for network in _configured(model):
        network.yaml = dict(network.yaml)  # type: ignore[arg-type, assignment]


def is_fused_by_its_parent(model: nn.Module, name: str) -> bool:
    """True if a module is the norm of a convolution of ultralytics, whose ``fuse`` deletes it and what follows it."""
    parent, _, leaf = name.rpartition(".")
    return leaf == "bn" and hasattr(model.get_submodule(parent), "forward_fuse")
