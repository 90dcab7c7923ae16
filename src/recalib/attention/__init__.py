"""WHAT recalibrates: one file a mechanism, and the catalogue of them."""

from recalib.attention.ab import AB
from recalib.attention.bam import BAM
from recalib.attention.base import Attention, Blend, Blended, BroadcastAttention, PlainAttention
from recalib.attention.catalogue import (
    CATALOGUE,
    PAPER,
    TIMM_LAYERS,
    TYPICAL,
    Mechanism,
    attention_names,
    create_attention,
)
from recalib.attention.cbam import CBAM
from recalib.attention.coord import Coord
from recalib.attention.eca import ECA, adaptive_kernel
from recalib.attention.eca_ns import ECANS
from recalib.attention.ecam import ECAM
from recalib.attention.ela import ELA
from recalib.attention.fca import Fca
from recalib.attention.gc import GC
from recalib.attention.gct import GCT
from recalib.attention.gct_l1 import GCTL1
from recalib.attention.ge import GE, GEFull
from recalib.attention.multi_se import MultiSE
from recalib.attention.param_groups import param_groups
from recalib.attention.scse import SCSE
from recalib.attention.se import SE
from recalib.attention.se_var import SEVar1, SEVar2, SEVar3
from recalib.attention.sge import SGE
from recalib.attention.simam import SimAM
from recalib.attention.srm import SRM
from recalib.attention.triplet import Triplet

__all__ = [
    "AB",
    "BAM",
    "CATALOGUE",
    "CBAM",
    "ECA",
    "ECAM",
    "ECANS",
    "ELA",
    "GC",
    "GCT",
    "GCTL1",
    "GE",
    "PAPER",
    "SCSE",
    "SE",
    "SGE",
    "SRM",
    "TIMM_LAYERS",
    "TYPICAL",
    "Attention",
    "Blend",
    "Blended",
    "BroadcastAttention",
    "Coord",
    "Fca",
    "GEFull",
    "Mechanism",
    "MultiSE",
    "PlainAttention",
    "SEVar1",
    "SEVar2",
    "SEVar3",
    "SimAM",
    "Triplet",
    "adaptive_kernel",
    "attention_names",
    "create_attention",
    "param_groups",
]
