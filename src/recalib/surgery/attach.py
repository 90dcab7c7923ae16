"""Putting modules into their places, all or none."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import nn

from recalib.errors import RecalibError
from recalib.surgery.anew import guard, is_fused_by_its_parent
from recalib.surgery.blocks import swap_class, taken_by
from recalib.surgery.build import Attention, build
from recalib.surgery.insertion import Insertion, Placement
from recalib.surgery.sites import blocks, module_named
from recalib.surgery.wrap import Recalibrated

ATTENTION = (
    "SEModule", "SqueezeExcite", "SqueezeExcitation", "EffectiveSEModule", "EcaModule", "CecaModule", "GatherExcite",
    "GlobalContext", "CbamModule", "LightCbamModule",
)  # fmt: skip  # channel attention of timm and torchvision, by class


def attach(model: nn.Module, placements: Sequence[Placement], kinds: Sequence[Attention]) -> Insertion:
    """Make all modules, then put them in: an error leaves the model as it was."""
    ends = dict(blocks(model))
    made: list[tuple[nn.Module, nn.Module]] = []
    for placement, kind in zip(placements, kinds, strict=True):
        name = placement.site.name
        outermost = module_named(model, name)
        host = ends.get(name, outermost) if placement.position == "end" else outermost
        _refuse_taken(name, outermost, host)
        if is_fused_by_its_parent(model, name):
            convolution = name.rpartition(".")[0]
            warnings.warn(
                f"{name}: fuse() of ultralytics deletes what follows a batch norm; name {convolution!r} instead",
                stacklevel=4,
            )
        if any(host is other for other, _ in made):
            raise RecalibError(f"{name} is the same module as another one of the names")
        made.append((host, _build(model, host, placement, kind)))
    for placement, (host, module) in zip(placements, made, strict=True):
        if placement.position == "end" and placement.site.name in ends:
            swap_class(host)
            host.attention = module
        else:
            wrapper = Recalibrated(host, module, "before" if placement.position == "before" else "after")
            replace(model, host, wrapper)
            host = wrapper
        host.__dict__["placement"] = asdict(placement)
    guard(model)
    parameters = {id(p): p.numel() for _, module in made for p in module.parameters()}
    return Insertion(tuple(placements), sum(parameters.values()))


def _build(model: nn.Module, host: nn.Module, placement: Placement, kind: Attention) -> nn.Module:
    """A module in the device and precision of its host's weights, or else of the model's, and in the host's mode."""
    weights = (p for module in (host, model) for p in module.parameters() if p.is_floating_point())
    module = build(kind, placement.site.channels, placement.options, like=next(weights, torch.empty(0)))
    return module.train(host.training)


def _refuse_taken(name: str, outermost: nn.Module, host: nn.Module) -> None:
    if type(host).__name__ in ATTENTION:
        raise RecalibError(f"{name} has a module at this site already: it is one ({type(host).__name__})")
    by = "attention" if isinstance(getattr(outermost, "attention", None), nn.Module) else taken_by(host)
    if by is not None:
        present = type(getattr(outermost, by)).__name__
        raise RecalibError(f"{name or 'the model'} has a module at this site already: {by} ({present})")


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, wherever in the model that one is used."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new
