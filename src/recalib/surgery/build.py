"""Making the attention module of a site from what the caller asked for."""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, nn

from recalib.attention import CATALOGUE, Blended, create_attention
from recalib.attention.base import Described
from recalib.attention.catalogue import canonical_name
from recalib.errors import RecalibError
from recalib.models.create import import_named

Factory = Callable[..., nn.Module]
Attention = str | Factory
"""A name of the catalogue, ``timm:NAME``, or a class or function ``channels -> module``."""


def name_of(attention: Attention) -> str:
    """Name of an attention in metadata: that in the catalogue where it has one, so that it can be made again.

    Raises:
        RecalibError: for an unknown name.
    """
    if isinstance(attention, str):
        return attention if attention.startswith("timm:") else canonical_name(attention)
    for name, mechanism in CATALOGUE.items():
        if attention in (mechanism.build, mechanism.classes[0]):
            return name
    kind = attention if hasattr(attention, "__qualname__") else type(attention)
    return f"{kind.__module__}:{kind.__qualname__}"


def found(name: str) -> Attention:
    """Meaning of a name that the caller typed: itself, or a class of the caller's own, by its path or entry point.

    Never for a name that a file holds: it would decide what is imported.

    Raises:
        RecalibError: for a path where there is nothing.
    """
    if name.startswith("timm:"):
        return name
    factory: Factory
    if ":" in name:
        factory = import_named(name, "attention")
        return factory
    if registered := [] if name in CATALOGUE else [*entry_points(group="recalib.attention", name=name)]:
        try:
            factory = registered[0].load()
        except Exception as error:  # whatever a stranger's package does when it is imported
            raise RecalibError(f"attention {name!r}: {registered[0].value} cannot be imported ({error})") from None
        return factory
    return name


def checked_name(name: str) -> str:
    """The name of an attention that the caller typed, as results and metadata have it, once one has been made.

    Raises:
        RecalibError: for an unknown name, or a path to what makes no module.
    """
    kind = found(name)
    with torch.random.fork_rng(devices=[]):
        build(kind, 64, {}, torch.empty(0))
    return name_of(kind) if isinstance(kind, str) else name


def per_stage(attention: Attention, options: Mapping[str, Any], stages: int) -> list[dict[str, Any]]:
    """Options of each stage: tuples and lists hold one value a stage, anything else goes to every stage.

    Raises:
        RecalibError: for a tuple of another length.
    """
    spelled = described(attention).spell_out(options)
    for option, value in spelled.items():
        if isinstance(value, (tuple, list)) and len(value) != stages:
            raise RecalibError(
                f"{option}={value!r} has {len(value)} values, but the network has {stages} stages (0 to {stages - 1})"
            )
    return [{k: v[i] if isinstance(v, (tuple, list)) else v for k, v in spelled.items()} for i in range(stages)]


def build(attention: Attention, channels: int, options: Mapping[str, Any], like: Tensor) -> nn.Module:
    """A module for maps of so many channels, in the device and precision of a tensor.

    Args:
        attention: what to make.
        channels: C.
        options: what the attention takes; ``identity`` works for every attention.
        like: a weight of the network.

    Raises:
        RecalibError: for an unknown name or option, or a factory that makes no module.
    """
    with torch.device(like.device):
        if isinstance(attention, str):
            module = create_attention(attention, channels, **options)
        else:
            module = _call(attention, channels, dict(options))
    return module.to(device=like.device, dtype=like.dtype)


def _call(factory: Factory, channels: int, options: dict[str, Any]) -> nn.Module:
    blend = options.get("identity", False) and "identity" not in inspect.signature(factory).parameters
    if blend:
        del options["identity"]
    try:
        module = factory(channels, **options)
    except TypeError as error:
        raise RecalibError(f"{name_of(factory)}: {error}") from error
    if not isinstance(module, nn.Module):
        raise RecalibError(f"{name_of(factory)} makes {module!r}; attention is an nn.Module")
    return Blended(module, channels) if blend and not getattr(module, "identity_at_start", False) else module


def described(attention: Any) -> type[Described]:
    """The class that says what the catalogue knows of an attention; an empty one for those it does not know."""
    kind: Any = attention
    if isinstance(attention, str) and not attention.startswith("timm:"):
        kind = CATALOGUE[canonical_name(attention)].classes[0]
    return kind if isinstance(kind, type) and issubclass(kind, Described) else Described
