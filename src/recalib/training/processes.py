"""Device, precision and processes of a run; batch statistics over all processes."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recalib.errors import RecalibError, WorkFailed, require_packages
from recalib.ops import recalibrate
from recalib.ops.norm import is_synchronized

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

T = TypeVar("T")
PATIENCE = 600.0  # seconds without an answer after which a process is taken for dead; RECALIB_PATIENCE


def launched(accelerator: str, devices: int, precision: Any) -> "Fabric":
    """Start the processes of a run, one a device; from here on every process runs.

    Where torchrun has started them, they are its processes, on as many machines as there are.

    Args:
        accelerator: auto, cpu, cuda or mps.
        devices: their number, unless torchrun says it.
        precision: as Fabric names it.

    Raises:
        RecalibError: for a device that this machine does not have, a precision that the device does not train in, or
            where Lightning Fabric is not installed.
    """
    require_packages(("lightning_fabric",), "train", "training and evaluation")
    from lightning_fabric import Fabric

    nodes = 1
    if under_torchrun():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = _processes() if devices * nodes > 1 else "auto"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*fp16 is not supported on CPU")  # where Fabric would take bfloat16
            fabric = Fabric(
                accelerator=accelerator, strategy=strategy, devices=devices, num_nodes=nodes, precision=precision
            )  # fmt: skip
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RecalibError(f"accelerator {accelerator!r}, devices {devices}: {reason}") from None
    if precision == "16-mixed" and fabric.device.type == "cpu":
        raise RecalibError("precision '16-mixed': a CPU does not train in it; --precision bf16-mixed, or 32-true")
    fabric.launch()
    return fabric


def under_torchrun() -> bool:
    """Decide whether torchrun started this process."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def from_first(fabric: "Fabric", do: Callable[[], T]) -> T:
    """Result of the first process, for all; where it fails, the others end without a word.

    Raises:
        RecalibError: in the first process, as ``do`` does.
    """
    found: tuple[Any, Exception | None] = (None, None)
    if fabric.is_global_zero:
        try:
            found = do(), None
        except RecalibError as error:
            found = None, error
    result, failed = fabric.broadcast(found)
    if failed is not None:
        raise failed if fabric.is_global_zero else SystemExit(1)
    made: T = result
    return made


@contextmanager
def naming_the_dead(fabric: "Fabric", advice: str) -> Iterator[None]:
    """Say in one line which process of several died, where the others would end in tracebacks of their connection.

    Args:
        fabric: launched.
        advice: the way to go on.

    Raises:
        WorkFailed: in the first process, where another died.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if fabric.world_size == 1 or not any(word in text for word in ("Connection", "peer", "gloo", "NCCL", "socket")):
            raise
        if not fabric.is_global_zero:
            raise SystemExit(1) from None
        raise WorkFailed(f"{_the_dead(fabric)} died; {advice}") from None


def _the_dead(fabric: "Fabric") -> str:
    children = getattr(getattr(fabric.strategy, "launcher", None), "procs", [])
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for rank, child in enumerate(children, 1):
            if child.poll():
                how = f"by signal {-child.returncode}" if child.returncode < 0 else f"with status {child.returncode}"
                return f"process {rank} of {fabric.world_size} (pid {child.pid}, ended {how})"
        time.sleep(0.05)
    return "another process of this run"


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


def _processes() -> "DDPStrategy":
    """DDP, on a CPU with networks of `synchronized` too."""
    from lightning_fabric.strategies import DDPStrategy

    class Processes(DDPStrategy):
        def setup_module(self, module: nn.Module) -> DistributedDataParallel:
            return _OnCpu(module) if self.root_device.type == "cpu" else super().setup_module(module)

    return Processes(timeout=timedelta(seconds=float(os.environ.get("RECALIB_PATIENCE", PATIENCE))))


class _OnCpu(DistributedDataParallel):
    def _passing_sync_batchnorm_handle(self, module: nn.Module) -> None:
        """Accept what DDP would refuse: `synchronized` has mended the norms."""
