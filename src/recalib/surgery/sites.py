"""WHERE attention sits: the ends of residual branches, and modules that the caller names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from recalib.errors import RecalibError, unknown
from recalib.surgery.blocks import channels_of
from recalib.surgery.candidates import FINDERS
from recalib.surgery.dry_run import observed_channels
from recalib.surgery.finished import refuse_finished
from recalib.surgery.watch import CONVOLUTIONS, Run, watch
from recalib.surgery.wrap import Position, Recalibrated, without_wrappers

Kind = Literal["residual", "blocks", "stages", "convs", "named"]
KINDS = get_args(Kind)[:-1]


@dataclass(frozen=True)
class Site:
    """A place for a channel attention module.

    Attributes:
        name: dotted name of the block, or of the module named in ``where``.
        channels: C of the map (N, C, H, W) there.
        stage: index of the stage of the network, from 0.
        kind: the end of a ``"residual"`` branch, or after one of the ``"blocks"``, ``"stages"`` or ``"convs"``, or
            ``"named"`` by the caller.
        size: H and W of the map at the size that the network is made for; None where that is not known.
    """

    name: str
    channels: int
    stage: int
    kind: Kind = field(default="residual", compare=False)
    size: tuple[int, ...] | None = field(default=None, compare=False)


def sites(model: nn.Module, where: Kind | None = None) -> list[Site]:
    """The places for attention in a network, in order, occupied or not; what `insert_` takes by default.

    ==============  ===================================================================================================
    ``"residual"``  the end of the branch before every residual addition of maps; in a block of torchvision, timm or
                    `cifar_resnet` that is known here, the site has the block's name, elsewhere that of the module
                    which the branch ends in
    ``"blocks"``    after every block: modules that end in a residual addition or concatenate; else modules of a class
                    that repeats; else the last convolution of each resolution
    ``"stages"``    after the last block of each resolution
    ``"convs"``     after every convolution of maps, its norm and its activation
    ==============  ===================================================================================================

    By default ``"residual"`` where the network has such additions, else ``"blocks"``. What a network adds and
    concatenates is seen in a run of a copy; additions of tokens (N, L, C) are no sites.

    Blocks that share a parent module (``layer1``, ``blocks.0``, ``stages.2.blocks``) are a stage. Where all share one
    (torchvision's MobileNets), a stage starts where the channels change.

    Args:
        model: a network, or a part of one.
        where: the kind; None for the default.

    Returns:
        The sites; none for a network that has no such places.

    Raises:
        RecalibError: for an unknown kind, and a network that does not run on the size that it is made for.

    Example::

        >>> sites(timm.create_model("resnet18"))[0]
        Site(name='layer1.0', channels=64, stage=0, kind='residual', size=(56, 56))
    """
    if where is not None and where not in KINDS:
        raise unknown("kind of sites", where, KINDS)
    refuse_finished(model, "sites")
    known = _known_sites(model) if where in (None, "residual") else []
    if not any(isinstance(module, CONVOLUTIONS) for module in model.modules()):
        return []
    try:
        run = watch(model)
    except RecalibError:
        if known:
            return known
        raise
    if known:
        sizes = {frame.name: frame.result.shape[2:] for frame in run.frames if frame.result is not None}
        return [replace(site, size=sizes.get(site.name)) for site in known]
    found = _seen_sites(run, where) if where else []
    for kind in ("residual", "blocks") if where is None else ():
        found = found or _seen_sites(run, kind)
    return found


def default_sites(model: nn.Module) -> list[Site]:
    """`sites`, without a run where the network's blocks are known."""
    return _known_sites(model) or sites(model)


def _known_sites(model: nn.Module) -> list[Site]:
    found = {name: channels_of(block) or 0 for name, block in blocks(model)}
    return _sites(found, _stages(found, found.values()))


def _seen_sites(run: Run, kind: str) -> list[Site]:
    found = FINDERS[kind](run)
    stages = _stages([candidate.block for candidate in found], [candidate.shape[1] for candidate in found])
    return [
        Site(c.name, c.shape[1], stage, kind, c.shape[2:])  # type: ignore[arg-type]
        for c, stage in zip(found, stages, strict=True)
    ]


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
    try:
        homes = default_sites(model)
    except RecalibError:  # it does not run on the size that is assumed
        homes = []
    inherited = [home.stage for name in found for home in homes if f"{name}.".startswith(f"{home.name}.")]
    if len(inherited) == len(found):
        return _sites(found, inherited, "named"), 1 + homes[-1].stage
    stages = _stages(found, found.values())
    return _sites(found, stages, "named"), 1 + max(stages)


def names_of(model: nn.Module, wanted: str | type) -> list[str]:
    """Names of the modules of a network that a name, a pattern or a class stands for.

    In a pattern ``*`` is one part of a name and ``**`` any number of them. A class may be the last part, or follow it:
    ``backbone.*.C2f`` are ``backbone.2`` and ``backbone.stage.c2f``, where these are C2f.

    Raises:
        RecalibError: where there are none, naming what this network has.
    """
    named = {without_wrappers(name): module for name, module in model.named_modules(remove_duplicate=False) if name}
    if isinstance(wanted, str):
        if wanted in named or wanted == "":
            return [wanted]
        pattern = re.compile(_regular(wanted))
        found = [n for n, m in named.items() if any(map(pattern.fullmatch, _spellings(n, type(m).__name__)))]
        found = found or [n for n, m in named.items() if type(m).__name__ == wanted]
    else:
        found = [n for n, m in named.items() if isinstance(m, wanted)]
    if found:
        return found
    classes = [type(m).__name__ for m in named.values() if not type(m).__module__.startswith("torch.nn")]
    what = wanted if isinstance(wanted, str) else wanted.__name__
    raise unknown("module", what, [*named, *classes])


def _spellings(name: str, kind: str) -> tuple[str, str, str]:
    return name, f"{name}.{kind}", f"{name.rpartition('.')[0]}.{kind}"


def _regular(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return "".join({"**": ".*", "*": "[^.]*", "?": "[^.]"}.get(part) or re.escape(part) for part in parts)


def module_named(model: nn.Module, name: str) -> nn.Module:
    """A module inside of a model.

    Raises:
        RecalibError: for a name that does not exist.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise unknown("module", name, (without_wrappers(known) for known, _ in model.named_modules())) from None


def _sites(channels: dict[str, int], stages: list[int], kind: Kind = "residual") -> list[Site]:
    return [Site(name, C, stage, kind) for (name, C), stage in zip(channels.items(), stages, strict=True)]


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
