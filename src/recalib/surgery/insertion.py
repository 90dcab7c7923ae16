"""Insertions into a network, as data that can be stored and repeated."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from recalib.surgery.blocks import channels_of
from recalib.surgery.build import name_of
from recalib.surgery.sites import Site, default_sites
from recalib.surgery.wrap import Recalibrated, without_wrappers


@dataclass(frozen=True)
class Placement:
    """One attention module in its place.

    Attributes:
        site: where it is.
        attention: its name in the catalogue, ``timm:NAME``, or ``package.module:Class`` of the caller's own.
        options: what it was made with, such as ``{"kernel_size": 5}``.
        position: ``"end"`` of a residual branch, or ``"after"`` or ``"before"`` a named module.
    """

    site: Site
    attention: str
    options: dict[str, Any]
    position: Literal["end", "after", "before"]


@dataclass(frozen=True)
class Insertion:
    """Modules that `insert_` put into a network, or `remove_` took out.

    Attributes:
        placements: every module, in the order of the network.
        parameters: number of parameters of all of them.
    """

    placements: tuple[Placement, ...]
    parameters: int

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the modules are."""
        return tuple(placement.site for placement in self.placements)

    def metadata(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=repr))
        return plain

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Insertion":
        """The insertion that `metadata` describes."""
        placements = tuple(_recorded(p["site"]["name"], p) for p in metadata["placements"])
        return cls(placements, metadata["parameters"])

    def __str__(self) -> str:
        kinds = Counter(_spelled(placement) for placement in self.placements)
        what = ", ".join(f"{kind} at {n} site{'s' * (n > 1)}" for kind, n in kinds.items())
        return f"{what or 'nothing'}: {self.parameters:,} parameters"


def inserted(model: nn.Module) -> Insertion:
    """The attention modules that are in a network now, whoever put them there."""
    placements = []
    parameters: dict[int, int] = {}
    for name, host in hosts(model):
        parameters |= {id(p): p.numel() for p in host.attention.parameters()}
        placements.append(_recorded(name, host.placement) if hasattr(host, "placement") else _seen(model, name, host))
    return Insertion(tuple(placements), sum(parameters.values()))


def _recorded(name: str, placement: Mapping[str, Any]) -> Placement:
    """The record of `attach`, under the name that the block has now."""
    return Placement(**{**placement, "site": Site(**{**placement["site"], "name": name})})


def _seen(model: nn.Module, name: str, host: Any) -> Placement:
    """Description of a module that a network was built with."""
    site = next(site for site in default_sites(model) if site.name == name)
    return Placement(site, name_of(type(host.attention)), {}, "end")


def hosts(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The blocks and wrappers that have attention, with the names they have without wrappers."""
    for name, module in model.named_modules():
        known = isinstance(module, Recalibrated) or channels_of(module) is not None
        if known and isinstance(getattr(module, "attention", None), nn.Module):
            yield without_wrappers(name), module


def attention_of(model: nn.Module) -> list[nn.Module]:
    """The attention modules themselves, of whatever class."""
    return [host.attention for _, host in hosts(model)]


def _spelled(placement: Placement) -> str:
    options = ", ".join(f"{key}={value!r}" for key, value in placement.options.items())
    return f"{placement.attention}({options})" if options else placement.attention
