"""Device, precision and processes of a run; batch statistics over all processes."""

import warnings
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recalib.errors import RecalibError
from recalib.ops import recalibrate
from recalib.ops.norm import is_synchronized

if find_spec("lightning_fabric") is None:
    raise RecalibError("training and evaluation need Lightning Fabric: pip install 'recalib[train]'")

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy


def launched(accelerator: str, devices: int, precision: Any) -> Fabric:
    """Start the processes of a run, one a device; from here on every process runs.

    Args:
        accelerator: auto, cpu, cuda or mps.
        devices: how many.
        precision: as Fabric names it.

    Raises:
        RecalibError: for a device that this machine does not have, or a precision that the device does not train in.
    """
    strategy = Processes() if devices > 1 else "auto"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*fp16 is not supported on CPU")  # where Fabric would take bfloat16
            fabric = Fabric(accelerator=accelerator, strategy=strategy, devices=devices, precision=precision)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RecalibError(f"accelerator {accelerator!r}, devices {devices}: {reason}") from None
    if precision == "16-mixed" and fabric.device.type == "cpu":
        raise RecalibError("precision '16-mixed': a CPU does not train in it; --precision bf16-mixed, or 32-true")
    fabric.launch()
    return fabric


def synchronized(network: nn.Module, device: torch.device) -> nn.Module:
    """A network whose batch norms take their statistics over all processes, on any device.

    torch's SyncBatchNorm, and its DDP with one, refuse a CPU.

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
