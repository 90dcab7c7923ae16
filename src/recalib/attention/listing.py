"""The catalogue as people read it: what each form of a mechanism computes, costs and reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from recalib.attention import CATALOGUE, BroadcastAttention, create_attention
from recalib.ops import GateOnMoments


@dataclass(frozen=True)
class Entry:
    """One form of a mechanism.

    Attributes:
        name: what `create_attention` and `insert_` take.
        aliases: other names for it.
        options: that choose this form.
        title: the name in its paper.
        formula: y as a function of x.
        params: parameters at the given number of channels.
        moments: what it reads of a map: ``"mean"``, ``"mean, variance"``, other statistics, or ``"map"``.
        identity_at_start: whether it starts as the identity without being asked to.
        fused: whether `recalib.ops.recalibrate` can fuse it with norm, shortcut and ReLU.
        passes: over the map, forward, and as many backward; None where it runs as plain operators.
        authors: where its authors put it, by the modules of such a name; None for the end of a residual branch.
        paper: first author, year, arXiv number.
    """

    name: str
    aliases: tuple[str, ...]
    options: dict[str, Any]
    title: str
    formula: str
    params: int
    moments: str
    identity_at_start: bool
    fused: bool
    passes: int | None
    authors: str | None
    paper: str


def entries(channels: int) -> list[Entry]:
    """Every form of every mechanism of the catalogue.

    Args:
        channels: that parameters are counted for.
    """
    return list(_entries(channels))


def _entries(channels: int) -> Iterator[Entry]:
    for name, mechanism in CATALOGUE.items():
        for form in mechanism.classes:
            options = dict(form.chosen_by)
            module = create_attention(name, channels, **options)
            yield Entry(
                name=name,
                aliases=mechanism.aliases,
                options=options,
                title=form.title,
                formula=form.formula,
                params=sum(p.numel() for p in module.parameters()),
                moments=_moments(module),
                identity_at_start=form.identity_at_start,
                fused=isinstance(module, GateOnMoments),
                passes=_passes(module),
                authors=f"{form.authors.position} {form.authors.names}" if form.authors else None,
                paper=form.paper,
            )


def _passes(module: nn.Module) -> int | None:
    """One read a step, and one to apply the gates."""
    if isinstance(module, GateOnMoments):
        return 2
    return 1 + len(module.steps()) if isinstance(module, BroadcastAttention) else None


def _moments(module: nn.Module) -> str:
    if isinstance(module, BroadcastAttention):
        return ", ".join(name.replace("_", " ") for step in module.steps() for name in step.reads)
    if not isinstance(module, GateOnMoments):
        return "map"
    return "mean, variance" if module.needs_variance else "mean"
