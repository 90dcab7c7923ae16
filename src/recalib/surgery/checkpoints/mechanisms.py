"""Attention that tensors belong to, and the options it was made with, told from their names and shapes."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recalib.attention.base import Shapes
from recalib.attention.catalogue import CATALOGUE, Mechanism
from recalib.errors import RecalibError
from recalib.surgery.checkpoints.compare import COUNTER


class Blueprint(NamedTuple):
    """Recipe of a module: ``create_attention(name, channels, **options)``."""

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
    tensors: Mapping[str, Tensor], preferred: str | None, unseen: Mapping[str, Mapping[str, Any]]
) -> Blueprint:
    """The recipe of the module that has exactly these tensors, named as our modules name them.

    Args:
        tensors: parameters and buffers by their names in the module.
        preferred: the mechanism to take where the tensors are those of several.
        unseen: options that tensors do not show, by mechanism.

    Raises:
        RecalibError: for tensors that no module here has, or that several have.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items() if not key.endswith(COUNTER)}
    held = ", ".join(f"attention.{key}" for key in shapes)
    found: dict[str, dict[str, Any]] = {}
    near: list[str] = []
    for name, mechanism in CATALOGUE.items():
        try:
            told = _told(mechanism, shapes)
        except RecalibError as error:
            near.append(f"; {error}")
            continue
        if told is None:
            continue
        made = _shapes(mechanism, told)
        if made == shapes:
            found[name] = _options(told)
        else:
            near.append(f"; not those of {name}: {_difference(made, shapes)}")
    if not found:
        raise RecalibError(f"no attention module has the tensors {held}{near[0] if len(near) == 1 else ''}")
    if len(found) > 1 and preferred not in found:
        which = " or ".join(found)
        raise RecalibError(f"{held} may be of {which}; insert either into a network and give it as model=")
    name = next(iter(found)) if len(found) == 1 else str(preferred)
    return Blueprint(name, {**found[name], **unseen.get(name, {})})


def seen_options(name: str, shapes: Shapes) -> dict[str, Any]:
    """Options of a mechanism that the shapes of its tensors show; none where the tensors are not complete."""
    told = _told(CATALOGUE[name], shapes) if name in CATALOGUE else None
    return {} if told is None else _options(told)


def _told(mechanism: Mechanism, shapes: Shapes) -> dict[str, Any] | None:
    blend = shapes.get("blend.weight")
    blended = {"identity": True, "channels": blend[0]} if blend else {}
    for form in mechanism.classes:
        try:
            return {**form.told_by(shapes), **blended}
        except RecalibError:
            raise
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            continue
    return None


def _options(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "channels"}


def _shapes(mechanism: Mechanism, told: Mapping[str, Any]) -> Shapes:
    with torch.device("meta"):
        module = mechanism.build(**told)
    return {key: tensor.shape for key, tensor in module.state_dict().items() if not key.endswith(COUNTER)}


def _difference(made: Shapes, held: Shapes) -> str:
    for key in (*made, *held):
        if key not in held:
            return f"{key} is missing"
        if key not in made:
            return f"{key} is none of its tensors"
        if made[key] != held[key]:
            return f"{key} would be {tuple(made[key])}, it is {tuple(held[key])}"
    raise AssertionError("equal")
