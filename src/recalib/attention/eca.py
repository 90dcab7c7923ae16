"""ECA: efficient channel attention, one kernel shared by all channels."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention.base import Attention, Factory, Shapes
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel
from recalib.ops.reference import convolve_channels


def adaptive_kernel(channels: int, gamma: float = 2.0, b: float = 1.0) -> int:
    """Odd kernel size for a number of channels; Wang et al. 2020, section 3.2, with its gamma and b."""
    t = int(abs((math.log2(channels) + b) / gamma))
    return t if t % 2 else t + 1


def odd_kernel(kernel_size: int | str, channels: int) -> int:
    """A kernel size as it was given, checked, or computed from the channels."""
    if kernel_size == "adaptive":
        return adaptive_kernel(channels)
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise RecalibError(
            f"kernel_size={kernel_size!r}: ECA takes an odd number, 'adaptive', or, in insert_, one odd number "
            "per stage such as (3, 5, 5, 7) or '3557'"
        )
    return kernel_size


def _circled(mean: Tensor, k: int) -> Tensor:
    """The means (N, C) with each end followed by the other, as far as a kernel reaches: (N, C + k - 1)."""
    half = k // 2
    return torch.cat([mean[:, mean.shape[1] - half :], mean, mean[:, :half]], 1) if half else mean


class ECA(Attention):
    """Efficient Channel Attention from Wang et al. 2020, https://arxiv.org/abs/1910.03151.

    ``y = x * sigmoid(conv1d_k(m))``, zero padded, without bias: one kernel shared by all channels.

    Args:
        channels: C.
        kernel_size: k, odd (3 in Klomp et al. 2023); ``"adaptive"`` computes it from the channels, see
            `adaptive_kernel`. In `insert_` also one value per stage, ``(3, 5, 5, 7)`` or ``"3557"``.
        identity: start as the exact identity.
        circular: the last channels are neighbours of the first, as in timm's ``ceca``, in place of zeros.
        **factory: device and dtype of the parameters.
    """

    title = "Efficient Channel Attention"
    formula = "y = x·σ(conv1d_k(m))"
    paper = "Wang 2020, arXiv:1910.03151"
    paper_flops = (2, 0)

    def __init__(
        self,
        channels: int,
        kernel_size: int | Literal["adaptive"] = 3,
        identity: bool = False,
        circular: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        k = odd_kernel(kernel_size, channels)
        if circular and k > channels:
            raise RecalibError(f"kernel_size={k}: a circle of {channels} channels is shorter than the kernel")
        self.circular = circular
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False, **factory)

    @property
    def kernel_size(self) -> int:
        """Number of neighbouring channels that a gate looks at, k."""
        return self.conv.kernel_size[0]

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        mean, weight = moments.mean, self.conv.weight.to(moments.mean.dtype)
        if self.circular:
            return Affine(F.conv1d(_circled(mean, self.kernel_size).unsqueeze(1), weight).squeeze(1).sigmoid())
        return Affine(convolve_channels(mean, weight).sigmoid())

    def kernel(self, size: int) -> Kernel | None:
        """The gate as one kernel, where zeros surround the channels; see `recalib.ops.gates`."""
        if self.circular:
            return None
        return Kernel("neighbours", (self.conv.weight,))

    @classmethod
    def spell_out(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Per-stage kernels written as in the released checkpoints' names: ``"3557"`` -> (3, 5, 5, 7)."""
        kernel = options.get("kernel_size")
        if isinstance(kernel, str) and kernel.isdigit():
            return {**options, "kernel_size": tuple(map(int, kernel)) if len(kernel) > 1 else int(kernel)}
        return dict(options)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One kernel of any size, for any number of channels."""
        _, _, k = shapes["conv.weight"]
        return {"channels": 1, "kernel_size": k}

    def extra_repr(self) -> str:
        """The channels and the kernel."""
        return f"{self.channels}, kernel_size={self.kernel_size}"
