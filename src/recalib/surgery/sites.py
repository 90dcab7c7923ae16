"""WHERE attention sits: the ends of residual branches, and modules that the caller names."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from recalib.errors import unknown
from recalib.surgery.blocks import channels_of
from recalib.surgery.dry_run import observed_channels
from recalib.surgery.traced import traced_branches
from recalib.surgery.wrap import Position, Recalibrated, without_wrappers


@dataclass(frozen=True)
class Site:
    """A place for a channel attention module.

    Attributes:
        name: dotted name of the block, or of the module named in ``where``.
        channels: C of the map (N, C, H, W) there.
        stage: index of the stage of the network, from 0.
    """

    name: str
    channels: int
    stage: int


def sites(model: nn.Module) -> list[Site]:
    """The default sites of a network: the end of the residual branch of every block, in order.

    Blocks that share a parent module (``layer1``, ``blocks.0``, ``stages.2.blocks``) are a stage. Where all share one
    (torchvision's MobileNets), a stage starts where the channels change.

    Networks without a block that is known here are traced: there a site is the last layer of a block's branch, and
    has its name. All branches have to end in a convolution or a norm, or there are no sites.

    Args:
        model: a network, or a part of one.

    Returns:
        The sites, occupied or not; none for a network without residual additions.
    """
    found = {name: channels_of(block) or 0 for name, block in blocks(model)}
    return _sites(found, _stages(found, found.values())) or _traced_sites(model)


def _traced_sites(model: nn.Module) -> list[Site]:
    branches = [(block, end, _declared_channels(module, "after")) for block, end, module in traced_branches(model)]
    channels = {without_wrappers(end): C for _, end, C in branches if C is not None}
    if len(channels) != len(branches):
        return []
    return _sites(channels, _stages([without_wrappers(block) for block, _, _ in branches], channels.values()))


def blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of the default sites with their names; one that is used twice appears once."""
    for name, module in model.named_modules():
        if channels_of(module) is not None:
            yield without_wrappers(name), module


def named_sites(model: nn.Module, names: Sequence[str], position: Position) -> tuple[list[Site], int]:
    """Sites after or before modules given by name, in the network's order, and the number of stages.

    If all are inside of blocks, they belong to the stages of these; else they form stages as the default sites do.

    Raises:
        RecalibError: for a name that does not exist, or whose channels cannot be found out.
    """
    order = {without_wrappers(name): i for i, (name, _) in enumerate(model.named_modules())}
    names = sorted(dict.fromkeys(names), key=lambda name: order.get(name, len(order)))
    declared = {name: _declared_channels(module_named(model, name), position) for name in names}
    lacking = [name for name, channels in declared.items() if channels is None]
    observed = observed_channels(model, lacking, position) if lacking else {}
    found = {name: channels or observed[name] for name, channels in declared.items()}
    homes = sites(model)
    inherited = [home.stage for name in found for home in homes if f"{name}.".startswith(f"{home.name}.")]
    if len(inherited) == len(found):
        return _sites(found, inherited), 1 + homes[-1].stage
    stages = _stages(found, found.values())
    return _sites(found, stages), 1 + max(stages)


def module_named(model: nn.Module, name: str) -> nn.Module:
    """A module inside of a model.

    Raises:
        RecalibError: for a name that does not exist.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise unknown("module", name, (without_wrappers(known) for known, _ in model.named_modules())) from None


def _sites(channels: dict[str, int], stages: list[int]) -> list[Site]:
    return [Site(name, C, stage) for (name, C), stage in zip(channels.items(), stages, strict=True)]


def _stages(names: Iterable[str], channels: Iterable[int]) -> list[int]:
    parents = [name.rpartition(".")[0] for name in names]
    order = list(dict.fromkeys(parents))
    if len(order) > 1:
        return [order.index(parent) for parent in parents]
    stages: list[int] = []
    previous = None
    for current in channels:
        stages.append(stages[-1] + (current != previous) if stages else 0)
        previous = current
    return stages


def _declared_channels(module: nn.Module, position: Position) -> int | None:
    """C that a module states of its output, or of its input."""
    if isinstance(module, Recalibrated):
        return _declared_channels(module.wrapped, position)
    if isinstance(module, nn.Sequential) and len(module):
        return _declared_channels(module[-1 if position == "after" else 0], position)
    if isinstance(module, _NormBase):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(statistics := getattr(module, "running_mean", None), Tensor):  # torchvision's frozen norms
        return len(statistics)
    channels = getattr(module, "out_channels" if position == "after" else "in_channels", None)
    return channels if isinstance(channels, int) else channels_of(module) if position == "after" else None
