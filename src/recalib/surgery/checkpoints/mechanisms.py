"""Which attention tensors belong to, and with which options it was made, told from their names and shapes."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Size, Tensor

from recalib.errors import RecalibError

Shapes = Mapping[str, Size]


class Recipe(NamedTuple):
    """What makes a module: ``create_attention(name, channels, **options)``."""

    name: str
    options: dict[str, Any]


def attention_tensors(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of attention by the module that carries it: ``{"layer1.0": {"conv.weight": ...}, ...}``."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if match := re.fullmatch(r"(.+?)\.attention\.(.+)", key):
            found.setdefault(match[1], {})[match[2]] = tensor
    return found


def recipe_of_tensors(
    tensors: Mapping[str, Tensor], lone_weight: str | None, unseen: Mapping[str, Mapping[str, Any]]
) -> Recipe:
    """The recipe of the module that has these tensors, named as our modules name them.

    Args:
        tensors: parameters and buffers by their names in the module.
        lone_weight: name of the mechanism whose one tensor is ``weight``; several here have no other.
        unseen: options that tensors do not show, by mechanism.

    Raises:
        RecalibError: for tensors that no module here has.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    name = _name(shapes, lone_weight)
    return Recipe(name, {**seen_options(name, shapes), **unseen.get(name, {})})


def _name(shapes: Shapes, lone_weight: str | None) -> str:
    for key, name in _SIGNS:
        if key in shapes:
            return "eca_ns" if name == "eca" and shapes[key][0] > 1 else name
    if "weight" in shapes and lone_weight:
        return lone_weight
    held = ", ".join(f"attention.{key}" for key in shapes)
    if "weight" in shapes:
        raise RecalibError(f"{held} may be AB's or SE-Var2's; insert either into a network and give it as model=")
    raise RecalibError(f"no attention module has the tensors {held}")


# A key that tells a mechanism, the first that is there.
_SIGNS = (
    ("alpha", "gct"),
    ("assign.weight", "multi_se"),
    ("fc1.weight", "se"),
    ("fc.weight", "se_var3"),
    ("conv.bias", "ge"),
    ("bn.weight", "srm"),
    ("conv.weight", "eca"),
)


def seen_options(name: str, shapes: Shapes) -> dict[str, Any]:
    """Options of a mechanism that the shapes of its tensors show; none where the tensors are not complete."""
    try:
        options = _OPTIONS[name](shapes) if name in _OPTIONS else {}
    except RecalibError:
        raise
    except (KeyError, ValueError, ZeroDivisionError):
        options = {}
    return {**options, "identity": True} if "blend.weight" in shapes else options


def _kernel(shapes: Shapes) -> dict[str, Any]:
    return {"kernel_size": shapes["conv.weight"][-1]}


def _se(shapes: Shapes) -> dict[str, Any]:
    hidden, channels = shapes["fc1.weight"]
    return {"reduction": _reduction(channels, hidden), "bias": "fc1.bias" in shapes}


def _multi_se(shapes: Shapes) -> dict[str, Any]:
    branches, channels = shapes["assign.weight"]
    hidden = shapes["fc1.weight"][0] // branches
    return {"branches": branches, "reduction": _reduction(channels, hidden), "bias": "fc1.bias" in shapes}


def _reduction(channels: int, hidden: int) -> int:
    # 16, which nearly all have, or the largest that gives this width: if any does, that one does.
    for reduction in (16, channels // max(hidden, 1)):
        if reduction and max(1, channels // reduction) == hidden:
            return reduction
    raise RecalibError(f"squeeze-and-excitation with {hidden} of {channels} channels: no reduction gives this width")


_OPTIONS: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "eca": _kernel,
    "eca_ns": _kernel,
    "ge": _kernel,
    "se": _se,
    "multi_se": _multi_se,
}
