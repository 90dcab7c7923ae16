"""Affine form of a batch norm once the moments of every image are known: scale, centre and shift per channel."""

from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recalib.ops import fold

_FROZEN = "torchvision.ops.misc.FrozenBatchNorm2d"  # named, not imported: recalib.ops needs torch alone
_WITH_ACTIVATION = ("timm.layers.norm_act.BatchNormAct2d", "timm.layers.norm_act.SyncBatchNormAct")


class Normalized(NamedTuple):
    """``norm(x) = scale * (x - centre) + shift``, each of shape (C,), and the moments of norm(x)."""

    scale: Tensor
    centre: Tensor
    shift: Tensor
    moments: Tensor  # (order, N, C)


class Bias(nn.Module):
    """The rest of a norm that was folded into the convolution before it: ``x + bias``, (C,) on maps (N, C, H, W).

    Args:
        bias: the convolution's; taken out of it, it is added by the tail's last pass and needs none of its own.
    """

    def __init__(self, bias: nn.Parameter) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """The sum, in the map's precision."""
        return x + self.bias.to(x.dtype)[:, None, None]


def is_affine(norm: nn.Module) -> bool:
    """True if a norm is, given its statistics, an affine map per channel that this file can state.

    `Bias`, BatchNorm1d to 3d and SyncBatchNorm, also as subclasses that leave the forward alone, torchvision's
    FrozenBatchNorm2d, and timm's BatchNormAct2d where neither an activation nor a DropBlock follows the norm.
    """
    kind = type(norm)
    if isinstance(norm, _BatchNorm):
        if kind.forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
            return True
        return _name_of(kind) in _WITH_ACTIVATION and _is_nothing(norm.act) and _is_nothing(norm.drop)
    return kind is Bias or _name_of(kind) == _FROZEN


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_nothing(module: object) -> bool:
    return type(module) is nn.Identity


def uses_batch_statistics(norm: nn.Module | None) -> bool:
    """True if a norm computes its statistics from the batch, as opposed to having them."""
    return isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None)


def is_synchronized(norm: nn.Module | None) -> TypeGuard[nn.SyncBatchNorm]:
    """True if a norm's batch is spread over several processes."""
    return (
        isinstance(norm, nn.SyncBatchNorm)
        and norm.training
        and distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size(norm.process_group) > 1
    )


def normalized(norm: nn.Module, stats: Tensor, size: int, order: int) -> Normalized:
    """Effect of a norm on this batch; running statistics are updated as the norm itself does.

    Args:
        norm: for which `is_affine` holds.
        stats: moments of x, shape (at least order, N, C); (2, N, C) where `uses_batch_statistics`.
        size: H*W.
        order: how many moments of norm(x) are wanted.
    """
    n: Any = norm
    if isinstance(norm, Bias):
        bias = n.bias.to(stats.dtype)
        moments = torch.stack([stats[i] + bias if i == 0 else stats[i] for i in range(order)]) if order else stats[:0]
        return Normalized(torch.ones_like(bias), torch.zeros_like(bias), bias, moments)
    weight, bias = (None if p is None else p.to(stats.dtype) for p in (n.weight, n.bias))
    given: tuple[Tensor, Tensor] | None = None
    count: int | Tensor = stats.shape[1] * size
    if is_synchronized(norm):
        mean, variance, count = _shared_statistics(norm, stats, stats.shape[1] * size)
        given = mean, variance
    elif not uses_batch_statistics(norm):
        given = n.running_mean.to(stats.dtype), n.running_var.to(stats.dtype)
    scale, centre, variance, moments = fold.normalize(stats, given, weight, bias, n.eps, order)
    if uses_batch_statistics(norm) and norm.training and norm.track_running_stats:
        _update_running_statistics(n, centre.detach(), variance, count)
    return Normalized(scale, centre, torch.zeros_like(centre) if bias is None else bias, moments)


def _shared_statistics(norm: nn.SyncBatchNorm, stats: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over the batches of all processes, shape (C,), and how many values."""
    means, variances = stats.unbind(0)
    images = max(len(means), 1)  # a process may have drawn none
    mean = means.sum(0) / images
    variance = torch.addcmul(variances, means - mean, means - mean).sum(0) / images
    shared: tuple[Tensor, Tensor, Tensor] = _Synchronized.apply(mean, variance, count, norm.process_group)
    return shared


@torch.no_grad()
def _update_running_statistics(
    norm: nn.BatchNorm2d | nn.SyncBatchNorm, mean: Tensor, variance: Tensor, count: Tensor | int
) -> None:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    if norm.running_mean is None or norm.running_var is None:
        return
    factor: Any = norm.momentum
    if factor is None:  # cumulative average; stays on the device
        assert norm.num_batches_tracked is not None
        factor = norm.num_batches_tracked.to(norm.running_mean.dtype).reciprocal()
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), factor)


class _Synchronized(torch.autograd.Function):
    """Statistics over all processes from those of each: one gather forward, one reduction backward."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, count: int, group: Any) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.cat([mean, variance, mean.new_full((1,), count)])
        gathered = own.new_empty(distributed.get_world_size(group) * len(own))
        distributed.all_gather_into_tensor(gathered, own, group=group)
        means, variances, counts = gathered.view(-1, len(own)).split([len(mean), len(mean), 1], 1)
        total = counts.sum()
        mean_of_all = (counts * means).sum(0) / total
        variance_of_all = (counts * (variances + (means - mean_of_all).square())).sum(0) / total
        ctx.save_for_backward(count / total, mean - mean_of_all)
        ctx.group = group
        ctx.mark_non_differentiable(total)
        return mean_of_all, variance_of_all, total

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor, d_variance: Tensor, _: Any) -> tuple[Tensor, Tensor, None, None]:
        share, offset = ctx.saved_tensors
        gradients = torch.stack([d_mean, d_variance])
        distributed.all_reduce(gradients, group=ctx.group)
        d_mean, d_variance = gradients.unbind(0)
        return share * (d_mean + 2 * offset * d_variance), share * d_variance, None, None
