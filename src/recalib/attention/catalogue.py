"""Names of the mechanisms, and how one is made by name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from recalib.attention.ab import AB
from recalib.attention.bam import BAM
from recalib.attention.base import Blended, Described
from recalib.attention.cbam import CBAM
from recalib.attention.coord import Coord
from recalib.attention.eca import ECA
from recalib.attention.eca_ns import ECANS
from recalib.attention.ecam import ECAM
from recalib.attention.ela import ELA
from recalib.attention.fca import Fca
from recalib.attention.gc import GC
from recalib.attention.gct import GCT, gct
from recalib.attention.gct_l1 import GCTL1
from recalib.attention.ge import GE, GEFull, ge
from recalib.attention.multi_se import MultiSE
from recalib.attention.scse import SCSE
from recalib.attention.se import SE
from recalib.attention.se_var import SEVar1, SEVar2, SEVar3
from recalib.attention.sge import SGE
from recalib.attention.simam import SimAM
from recalib.attention.srm import SRM
from recalib.attention.triplet import Triplet
from recalib.errors import RecalibError, unknown


@dataclass(frozen=True)
class Mechanism:
    """One entry of the catalogue.

    Attributes:
        build: ``(channels, ..., **factory) -> module``; its signature names the options.
        classes: what it may build, the default first.
        aliases: other names, such as those of the original code.
        leeway: its share of every limit on time; more than 1 for several branches.
    """

    build: Callable[..., nn.Module]
    classes: tuple[type[Described], ...]
    aliases: tuple[str, ...] = ()
    leeway: float = 1.0

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `create_attention` takes beside the channels."""
        return (*list(inspect.signature(self.build).parameters)[1:-1], "device", "dtype")


CATALOGUE: dict[str, Mechanism] = {
    "ab": Mechanism(AB, (AB,), ("meanrew",)),
    "bam": Mechanism(BAM, (BAM,)),
    "cbam": Mechanism(CBAM, (CBAM,)),
    "coord": Mechanism(Coord, (Coord,), ("coordinate", "ca")),
    "eca": Mechanism(ECA, (ECA,)),
    "eca_ns": Mechanism(ECANS, (ECANS,)),
    "ecam": Mechanism(ECAM, (ECAM,)),
    "ela": Mechanism(ELA, (ELA,), ("ela_b",)),
    "fca": Mechanism(Fca, (Fca,), ("fcanet",)),
    "gc": Mechanism(GC, (GC,), ("gcnet",)),
    "gct": Mechanism(gct, (GCT, GCTL1)),
    "ge": Mechanism(ge, (GE, GEFull)),
    "multi_se": Mechanism(MultiSE, (MultiSE,), ("multise", "multise3"), leeway=1.5),
    "scse": Mechanism(SCSE, (SCSE,)),
    "se": Mechanism(SE, (SE,)),
    "se_var1": Mechanism(SEVar1, (SEVar1,)),
    "se_var2": Mechanism(SEVar2, (SEVar2,)),
    "se_var3": Mechanism(SEVar3, (SEVar3,)),
    "sge": Mechanism(SGE, (SGE,)),
    "simam": Mechanism(SimAM, (SimAM,)),
    "srm": Mechanism(SRM, (SRM,)),
    "triplet": Mechanism(Triplet, (Triplet,)),
}


PAPER = ("ab", "eca", "se", "srm", "multi_se", "gct")
"""Modules that the paper compares (Klomp et al. 2023), and commands where none is named; in the order of charts."""

TYPICAL = ("se", "gct")
"""Where two stand for all: one that looks at means, and one that looks at variances too."""

TIMM_LAYERS = ("se", "ese", "eca", "ecam", "ceca", "ge", "gc", "gca", "cbam", "lcbam")  # keep the map's shape


def attention_names() -> list[str]:
    """Names that `create_attention` and `insert_` take, aliases and ``timm:NAME`` apart."""
    return list(CATALOGUE)


def canonical_name(name: str) -> str:
    """The catalogue's name for a name or alias, whatever its case and hyphens.

    Raises:
        RecalibError: for a name that is in no one's catalogue; the nearest ones are named.
    """
    key = name.lower().replace("-", "_")
    for canonical, mechanism in CATALOGUE.items():
        if key == canonical or key in mechanism.aliases:
            return canonical
    raise unknown("attention", name, CATALOGUE)


def create_attention(name: str, channels: int, **options: Any) -> nn.Module:
    """Make a channel attention module by name.

    Args:
        name: a name of `attention_names`, an alias, or ``timm:NAME`` for a layer of timm's.
        channels: C of the maps (N, C, H, W) it will recalibrate.
        **options: what the mechanism takes, such as ``reduction``, ``kernel_size`` or ``identity``.

    Returns:
        A module that maps (N, C, H, W) to (N, C, H, W).

    Raises:
        RecalibError: for an unknown name or option.

    Example::

        >>> create_attention("eca", 256, kernel_size="adaptive")
        ECA(
          256, kernel_size=5
          (conv): Conv1d(1, 1, kernel_size=(5,), stride=(1,), padding=(2,), bias=False)
        )
    """
    if name.startswith("timm:"):
        return _create_timm(name.removeprefix("timm:"), channels, options)
    canonical = canonical_name(name)
    mechanism = CATALOGUE[canonical]
    for option in options:
        if option not in mechanism.options:
            raise unknown(f"option of {canonical}", option, mechanism.options)
    return mechanism.build(channels, **mechanism.classes[0].spell_out(options))


def _create_timm(name: str, channels: int, options: dict[str, Any]) -> nn.Module:
    from timm.layers import create_attn, get_attn

    identity = options.pop("identity", False)
    try:
        get_attn(name)
    except (AssertionError, KeyError, ValueError):
        raise unknown("attention layer of timm", name, TIMM_LAYERS) from None
    try:
        layer = create_attn(name, channels, **options)
    except TypeError as error:
        raise RecalibError(f"timm:{name}: {error}") from None
    return Blended(layer, channels) if identity else layer
