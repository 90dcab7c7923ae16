"""The verbs: put attention into a network, take it out, or only fuse the tails that are there."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from recalib.errors import RecalibError, unknown
from recalib.surgery.anew import unguard
from recalib.surgery.attach import attach, replace
from recalib.surgery.blocks import restore_class, swap_class
from recalib.surgery.build import Attention, described, found, name_of, per_stage
from recalib.surgery.finished import refuse_finished
from recalib.surgery.insertion import Insertion, Placement, hosts, inserted
from recalib.surgery.sites import KINDS, Site, blocks, default_sites, named_sites, names_of, sites
from recalib.surgery.watch import CONVOLUTIONS, dims_of
from recalib.surgery.wrap import Position, Recalibrated, without_wrappers

Where = str | type | Callable[[Site], bool] | Sequence[str] | None
"""Where attention goes: a kind of `sites`, a module's name, a pattern, a class, a filter, or names and patterns."""


def insert_(
    model: nn.Module,
    attention: Attention | Mapping[int, Attention],
    *,
    where: Where = None,
    identity: bool = False,
    position: Position | Literal["authors"] = "after",
    **options: Any,
) -> Insertion:
    """Put a channel attention module at the end of every residual branch of a network, in place.

    The network keeps its keys; the new ones are ``<block>.attention.*``, so a pretrained checkpoint loads before or
    after. New modules take the mode, device and precision of their block, and can be trained in a frozen network too.

    Args:
        model: a convolutional network, or anything that contains one.
        attention: a name of `attention_names`, ``timm:NAME``, ``package.module:Class``, a name that an installed
            package registers under the entry point ``recalib.attention``, a class or factory ``channels -> module``, or
            a mapping from the index of a stage to one of these; stages that it leaves out get nothing.
        where: the kind of `sites`, ``"residual"``, ``"blocks"``, ``"stages"`` or ``"convs"``; a filter ``Site -> bool``
            on the default sites; or the modules after whose output the attention goes: their class, a name, a pattern
            such as ``"backbone.*.C2f"``, or several of these.
        identity: start every module as the exact identity.
        position: ``"after"`` or ``"before"`` the modules that `where` names; or, without `where`, ``"authors"``: where
            the authors of the mechanism put it, which for most is the default.
        **options: of the attention, for every site; a tuple has one value for each stage of the network.

    Returns:
        What was inserted.

    Raises:
        RecalibError: for a network without such sites, a site that has a module already, an unknown name or option,
            and a model that is wrapped, compiled, quantised or not initialised. The model is left as it was.

    Example::

        >>> model = torchvision.models.resnet50()
        >>> print(insert_(model, "eca", kernel_size=(3, 5, 5, 7)))
        eca(kernel_size=3) at 3 sites, eca(kernel_size=5) at 10 sites, eca(kernel_size=7) at 3 sites: 80 parameters
    """
    refuse_finished(model, "insert_")
    if position == "authors":
        where, position = _authors_place(model, attention, where)
    chosen, stages = _choose(model, where, position)
    recipes = _recipes(attention, {**options, "identity": True} if identity else options, stages)
    _refuse_planar(model, [kind for kind, _ in recipes.values()])
    plan = [(site, *recipes[site.stage]) for site in chosen if site.stage in recipes]
    if not plan:
        raise RecalibError(f"attention for the stages {sorted(recipes)}: none of the chosen sites is in one of these")
    placements = [
        Placement(site, name_of(kind), settings, "end" if site.kind == "residual" else position)
        for site, kind, settings in plan
    ]
    return attach(model, placements, [kind for _, kind, _ in plan])


def repeat_(model: nn.Module, insertion: Insertion) -> Insertion:
    """Insert into a network what was inserted into another one like it, in place.

    Args:
        model: a network whose modules have the same names.
        insertion: from `insert_`, `inserted` or `Insertion.from_metadata`.

    Raises:
        RecalibError: for an attention that is not in the catalogue, for sites that the network does not have, and as
            `insert_`. The model is left as it was.
    """
    refuse_finished(model, "repeat_")
    at_ends = any(placement.position == "end" for placement in insertion.placements)
    ends = {site.name: site for site in default_sites(model)} if at_ends else {}
    for placement in insertion.placements:
        site = placement.site
        if placement.position == "end" and site.name not in ends:
            raise unknown("site", site.name, ends)
        if placement.position == "end" and ends[site.name].channels != site.channels:
            raise RecalibError(f"{site.name} has {ends[site.name].channels} channels, the insertion {site.channels}")
    return attach(model, insertion.placements, [placement.attention for placement in insertion.placements])


def remove_(model: nn.Module, names: Collection[str] | None = None) -> Insertion:
    """Take every channel attention module out of a network, in place, and undo `fuse_`.

    The network is what it was: blocks have their own classes again, keys and results are the old ones.

    Args:
        model: a network.
        names: of sites; take only their modules out, and leave the rest of the network alone.

    Returns:
        What was taken out.

    Raises:
        RecalibError: for a wrapped or compiled model, and for a site that has no attention.
    """
    refuse_finished(model, "remove_")
    present = inserted(model)
    attended = [site.name for site in present.sites]
    for name in names or ():
        if name not in attended:
            raise unknown("site with attention", name, attended)
    chosen = set(attended if names is None else names)
    for name, host in list(hosts(model)):
        if name in chosen:
            host.__dict__.pop("placement", None)
            if isinstance(host, Recalibrated):
                replace(model, host, host.wrapped)
    for name, block in list(blocks(model)):
        if names is None or name in chosen:
            restore_class(block)
    if not inserted(model).placements:
        unguard(model)
    removed = tuple(placement for placement in present.placements if placement.site.name in chosen)
    return Insertion(removed, present.parameters - inserted(model).parameters)


def fuse_(model: nn.Module) -> None:
    """Run the tails of a network's residual blocks through `ops.recalibrate`, in place, without any attention.

    Raises:
        RecalibError: for a network without known residual blocks, and for a wrapped or compiled model.
    """
    refuse_finished(model, "fuse_")
    found = list(blocks(model))
    if not found:
        raise RecalibError(f"{type(model).__name__} has no residual blocks whose tail is known")
    for _, block in found:
        swap_class(block)


def _authors_place(model: nn.Module, attention: object, where: Where) -> tuple[Where, Position]:
    if where is not None or isinstance(attention, Mapping):
        raise RecalibError("position='authors' goes with one attention and without where")
    place = described(attention).authors
    if place is None:
        return None, "after"
    names = [name for name, _ in model.named_modules() if re.fullmatch(place.names, without_wrappers(name))]
    if not names:
        raise RecalibError(
            f"{type(model).__name__} has no module named as {place.names}, {place.position} which its authors put "
            "this attention; leave position out for the ends of residual branches"
        )
    return [without_wrappers(name) for name in names], place.position


def _choose(model: nn.Module, where: Where, position: Position) -> tuple[list[Site], int]:
    """The sites to insert at, and the number of stages of the network."""
    if position not in ("after", "before"):
        raise unknown("position", position, ("after", "before"))
    kind = where if isinstance(where, str) and where in KINDS else None
    keep = where if callable(where) and not isinstance(where, type) else None
    if where is not None and kind is None and keep is None:
        wanted: list[Any] = list(where) if isinstance(where, (list, tuple, set, frozenset)) else [where]
        if not wanted:
            raise RecalibError("where=[] names no module")
        if odd := [one for one in wanted if not isinstance(one, (str, type))]:
            raise RecalibError(
                f"where={odd[0]!r}: give a kind of sites, a name, pattern or class, several, or a filter"
            )
        return named_sites(model, [name for one in wanted for name in names_of(model, one)], position)
    if position == "before":
        raise RecalibError("position='before' needs where=[names of modules]")
    found = _sites_of_kind(model, kind)
    chosen = [site for site in found if keep is None or keep(site)]
    if not chosen:
        raise RecalibError(f"where leaves none of the {len(found)} sites, from {found[0]} to {found[-1]}")
    return chosen, 1 + found[-1].stage


def _sites_of_kind(model: nn.Module, kind: str | None) -> list[Site]:
    name, traced = type(model).__name__, isinstance(model, torch.fx.GraphModule)
    found = [] if traced else default_sites(model) if kind is None else sites(model, kind)  # type: ignore[arg-type]
    if found:
        return found
    convs = [n for n, m in model.named_modules() if isinstance(m, CONVOLUTIONS)]
    if not convs:
        raise RecalibError(f"{name} has no convolutions; channel attention recalibrates maps (N, C, H, W)")
    examples = list(dict.fromkeys((convs[0], convs[-1])))
    what = "residual additions or blocks" if kind is None else kind
    raise RecalibError(
        f"{name} has no {what} that can be seen{', for it is a traced graph' * traced}; "
        f"name the modules that attention should follow, as in where={examples}"
    )


def _refuse_planar(model: nn.Module, kinds: Sequence[Attention]) -> None:
    """Refuse a mechanism of rows and columns in a network of another number of dimensions."""
    for kind in kinds:
        if described(kind).planar and (dims := dims_of(model)) != 2:
            raise RecalibError(
                f"{name_of(kind)} is of rows and columns, and the maps of {type(model).__name__} are (N, C, "
                f"{', '.join('DHW'[-dims:]) if dims > 1 else 'L'}); eca, se, srm, gc, simam and others take any"
            )


def _recipes(
    attention: Attention | Mapping[int, Attention], options: dict[str, Any], stages: int
) -> dict[int, tuple[Attention, dict[str, Any]]]:
    """For each stage that gets any: what to make, and with which options."""
    kinds = attention if isinstance(attention, Mapping) else dict.fromkeys(range(stages), attention)
    for stage, kind in kinds.items():
        if stage not in range(stages):
            raise unknown("stage", stage, map(str, range(stages)))
        if isinstance(kind, nn.Module) or not (isinstance(kind, str) or callable(kind)):
            raise RecalibError(
                f"attention is of type {type(kind).__name__}: give a name, or a class or function channels -> module"
            )
    made = {stage: found(kind) if isinstance(kind, str) else kind for stage, kind in kinds.items()}
    return {stage: (kind, per_stage(kind, options, stages)[stage]) for stage, kind in made.items()}
