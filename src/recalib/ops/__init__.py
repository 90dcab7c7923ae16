"""HOW recalibration runs: one function, `recalibrate`, and the contract between moments and gates."""

from recalib.ops.contract import Affine, GateOnMoments, Moments
from recalib.ops.recalibrate import recalibrate
from recalib.ops.reference import attend, integrate, moments

__all__ = ["Affine", "GateOnMoments", "Moments", "attend", "integrate", "moments", "recalibrate"]
