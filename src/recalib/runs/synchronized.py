"""Batch statistics over all processes on any device; torch's SyncBatchNorm, and its DDP with one, refuse a CPU."""

from types import MethodType

import torch
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recalib.ops import recalibrate
from recalib.ops.norm import is_synchronized


def synchronized(network: nn.Module, device: torch.device) -> nn.Module:
    """A network whose batch norms take their statistics over all processes.

    Args:
        network: converted in place.
        device: that it is trained on.
    """
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm) and device.type == "cpu":
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
    return network


def _forward(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    if not is_synchronized(norm):
        return nn.SyncBatchNorm.forward(norm, x)
    return recalibrate(x.reshape(*x.shape[:2], -1, 1), norm, activation="none").view_as(x)


class Processes(DDPStrategy):
    """DDP, on a CPU with networks of `synchronized` too."""

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """The module as DDP wraps it."""
        return _OnCpu(module) if self.root_device.type == "cpu" else super().setup_module(module)


class _OnCpu(DistributedDataParallel):
    def _passing_sync_batchnorm_handle(self, module: nn.Module) -> None:
        """Where DDP would refuse; `synchronized` has mended the norms."""
