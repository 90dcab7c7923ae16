"""Protocols of latency: two named ones, which are two different quantities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recalib.errors import unknown

Statistic = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class Protocol:
    """Steps around the timed call.

    Attributes:
        name: ``"clean"`` or ``"paper"``.
        statistic: what of the samples is compared, ``np.median`` or ``np.min``.
        warm_up_s: seconds of un-timed calls before the first sample; at least one call is made.
        rounds: fixed number of samples, or None to take what the time budget allows.
        inference_mode: whether PyTorch runs without autograd.
        channels_last: whether PyTorch runs in channels_last layout, else contiguous (NCHW).
        bound: whether other runtimes read and write fixed buffers, else inputs and outputs are copied in the timed
            region; and whether PyTorch's weights are cast to a half precision beforehand, else by autocast inside it.
    """

    name: str
    statistic: Statistic
    warm_up_s: float
    rounds: int | None
    inference_mode: bool
    channels_last: bool
    bound: bool

    @property
    def compares(self) -> str:
        """Statistic of the samples that is compared: ``"median"`` or ``"min"``."""
        return "min" if self.statistic is np.min else "median"


PROTOCOLS = {
    # channels_last: 33.6 against 38.6 ms for ResNet-50 at batch 1 on a 2-core CPU (AVX-512), and what tensor cores want
    "clean": Protocol("clean", np.median, 0.2, None, inference_mode=True, channels_last=True, bound=True),
    # tensorrt_timing.py of Klomp et al. 2023: one un-timed forward, no torch.no_grad(), the minimum of 100 calls.
    # Only its order is not kept: calls stay interleaved, which a minimum does not see.
    "paper": Protocol("paper", np.min, 0.0, 100, inference_mode=False, channels_last=False, bound=False),
}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        RecalibError: for another name.
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
