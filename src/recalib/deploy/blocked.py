"""Gates in the blocked layout of ONNX Runtime's convolutions, which it leaves for all but a few operators.

Inside stay convolutions with constant weights, average pools, ReLU, sigmoid and tanh, and sums and products of two
equal shapes (``onnxruntime/core/optimizer/nchwc_transformer.cc``). So a gate's layers are convolutions of a map of one
pixel, and a factor a channel is a depth-wise one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib import attention as mechanisms
from recalib.attention import Attention
from recalib.deploy.gates import GateFirst
from recalib.deploy.graph import constant
from recalib.ops.norm import uses_batch_statistics


class GateBlocked(nn.Module):
    """`GateFirst` of a 1x1 convolution: AB, ECA, SE and its variants, GE.

    Args:
        gate: the folded first layer, and the attention whose other layers follow.
    """

    def __init__(self, gate: GateFirst) -> None:
        super().__init__()
        self.attention = gate.attention
        self.weight = constant(gate.weight[:, :, None, None])
        self.bias = gate.bias

    def forward(self, h: Tensor) -> Tensor:
        """Scale or shift (N, C, 1, 1) of the map that the convolution will make of h (N, C_in, H, W)."""
        z = F.conv2d(_mean(h), self.weight, self.bias)
        if isinstance(self.attention, mechanisms.SE):
            z = F.conv2d(z.relu(), self.attention.fc2.weight[:, :, None, None], self.attention.fc2.bias)
        return z if isinstance(self.attention, mechanisms.AB) else _blended(self.attention, z.sigmoid())


class MultiSEBlocked(GateBlocked):
    """The same for Multi-SE; its softmax over three branches alone is outside.

    Args:
        gate: the folded first layer of the branches and of their assignment, and Multi-SE itself.
        attention: Multi-SE.
    """

    def __init__(self, gate: GateFirst, attention: mechanisms.MultiSE) -> None:
        super().__init__(gate)
        self.branches = attention.branches
        self.second = constant(attention.fc2.weight[:, :, None, None])
        bias = attention.fc2_bias
        self.second_bias = None if bias is None else constant(bias.T[:, :, None, None])
        width = attention.fc2.in_features // attention.branches
        self.repeat = constant(torch.eye(self.branches).repeat_interleave(width, 0)[:, :, None, None].to(gate.weight))

    def forward(self, h: Tensor) -> Tensor:
        """Scale (N, C, 1, 1) of the map that the convolution will make of h (N, C_in, H, W)."""
        mean, k = _mean(h), self.branches
        hidden = F.conv2d(mean, self.weight[:-k], self.bias[:-k]).relu()
        a = F.conv2d(mean, self.weight[-k:], self.bias[-k:]).softmax(1)
        z = F.conv2d(hidden * F.conv2d(a, self.repeat), self.second)
        z = z if self.second_bias is None else z + F.conv2d(a, self.second_bias)
        return _blended(self.attention, z.sigmoid())


class GCTBlocked(nn.Module):
    """GCT from the map u: squares as a product of the map with itself, so nothing cancels.

    With q the mean square over HW pixels: ``e^2 = alpha^2 (HW q + eps)``, and the gate depends on e relative to its
    norm, from which HW goes.

    Args:
        attention: GCT in the l2 norm.
    """

    def __init__(self, attention: mechanisms.GCT) -> None:
        super().__init__()
        alpha, self.eps = attention.alpha.detach(), attention.eps
        self.share = constant((alpha.square() / len(alpha))[None, :, None, None])
        self.floor = constant((alpha.square().mean() + 1)[None] * attention.eps)
        self.slope = constant((attention.gamma * alpha)[:, None, None, None])
        self.beta = constant(attention.beta)
        self.one = constant(torch.ones_like(alpha))

    def forward(self, u: Tensor) -> Tensor:
        """Scale (N, C, 1, 1) of the map u (N, C, H, W)."""
        size, square = u.shape[2] * u.shape[3], _mean(u * u)
        norm = F.conv2d(square, self.share, self.floor / size)
        e = ((square + self.eps / size) / norm).sqrt()
        z = F.conv2d(e, self.slope, self.beta, groups=u.shape[1]).tanh()
        return F.conv2d(z, self.one[:, None, None, None], self.one, groups=u.shape[1])


class SRMBlocked(nn.Module):
    """SRM from the map u, whose variance is taken as E[(u - c)^2] - (m - c)^2.

    In float32 the relative error of a standard deviation s is about 1e-7 ((m - c) / s)^2: hence c, the mean over the
    data that the network was trained on, which the batch norm before SRM knows.

    Args:
        attention: SRM, whose norm has statistics.
        centre: c, shape (C,).
    """

    def __init__(self, attention: mechanisms.SRM, centre: Tensor) -> None:
        super().__init__()
        self.attention = attention
        norm = attention.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        unit = norm.weight / (norm.running_var + norm.eps).sqrt()
        by_mean, by_std = (attention.weight * unit[:, None]).unbind(1)
        self.centre = constant(-centre)
        self.one = constant(torch.ones_like(by_mean)[:, None, None, None])
        self.by_mean = constant(by_mean[:, None, None, None])
        self.by_std = constant(by_std[:, None, None, None])
        self.bias = constant(norm.bias - norm.running_mean * unit + by_mean * centre)

    def forward(self, u: Tensor) -> Tensor:
        """Scale (N, C, 1, 1) of the map u (N, C, H, W)."""
        size, C = u.shape[2] * u.shape[3], u.shape[1]
        unbiased = size / max(size - 1, 1)
        d = F.conv2d(u, self.one, self.centre, groups=C)
        mean = _mean(d)
        eps = torch.full_like(self.bias, self.attention.eps / unbiased)
        # rounding may take a constant map's variance below zero
        variance = (F.conv2d(mean * mean, -self.one, eps, groups=C) + _mean(d * d)).relu()
        z = F.conv2d(variance.sqrt(), self.by_std * unbiased**0.5, self.bias, groups=C)
        return _blended(self.attention, (z + F.conv2d(mean, self.by_mean, groups=C)).sigmoid())


def blocked_first(gate: GateFirst) -> nn.Module:
    """A gate from the input of a 1x1 convolution in this layout."""
    attention = gate.attention
    return MultiSEBlocked(gate, attention) if isinstance(attention, mechanisms.MultiSE) else GateBlocked(gate)


def blocked_squares(attention: Attention, centre: Tensor | None) -> nn.Module | None:
    """A gate that needs the variance in this layout, from the map; None where there is no such form.

    Args:
        attention: the gate.
        centre: about where each channel's mean is, shape (C,), where that is known.
    """
    if type(attention) is mechanisms.GCT:
        return GCTBlocked(attention)
    if type(attention) is mechanisms.SRM and centre is not None and not uses_batch_statistics(attention.bn):
        return SRMBlocked(attention, centre)
    return None


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, list(x.shape[2:]))


def _blended(attention: Attention, scale: Tensor) -> Tensor:
    blend = attention.blend
    if blend is None:
        return scale
    return F.conv2d(scale, blend.weight[:, None, None, None], blend.bias, groups=len(blend.bias))
