"""HOW recalibration runs: one function, `recalibrate`, and the contract between moments and gates."""

import torch

from recalib.ops.broadcast import Gates, Own, Statistic, Statistics, Step, broadcast
from recalib.ops.contract import Affine, GateOnMoments, Moments
from recalib.ops.recalibrate import attend, recalibrate
from recalib.ops.reference import integrate, moments

__all__ = [
    "Affine",
    "GateOnMoments",
    "Gates",
    "Moments",
    "Own",
    "Statistic",
    "Statistics",
    "Step",
    "attend",
    "broadcast",
    "integrate",
    "moments",
    "recalibrate",
]

# Symbolic tracing (feature extraction) sees a gate as one node: it asks for precisions and sizes, which have no value
# then. Callers say `ops.attend`, so that the tracer finds the name here.
torch.fx.wrap("attend")
