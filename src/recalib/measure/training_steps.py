"""Training steps of whole networks, eager and compiled, in turn."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.measure import networks
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.estimate import seconds_of
from recalib.measure.networks import Network
from recalib.measure.session import Group, How, Prepare
from recalib.measure.sizes import sides
from recalib.runtimes import Session, Settings
from recalib.runtimes.compile import with_own_code
from recalib.surgery import fuse_

TRAINING = "training"
READY_S = 20.0  # to get one ResNet-50 ready, compiled or not, on two cores
COMPILED = f"{TRAINING}, compiled"
FORMS = (f"{TRAINING}, eager", COMPILED)


class TrainingSession(Session):
    """Forward, cross-entropy, backward and an SGD step with momentum, on one batch; float32 weights under autocast.

    Args:
        model: copied.
        images: (N, 3, H, W).
        settings: device and precision.
        compiled: whether the network goes through `torch.compile`.
        fused: whether a plain network's tails go through `recalib.ops.recalibrate`, too.
        mode: of `torch.compile`; ``"reduce-overhead"`` replays a CUDA graph, for networks too small to hide launches.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        settings: Settings,
        compiled: bool,
        fused: bool,
        mode: str | None = None,
    ) -> None:
        place: Any = {"device": settings.device, "memory_format": torch.channels_last}
        self.device, self.layout = settings.device.type, "channels_last"
        self.asynchronous = self.device == "cuda"
        self.model = copy.deepcopy(model).train()
        if fused:
            fuse_(self.model)
        self.model.to(**place)
        self.images = images.to(**place)
        self.labels = torch.arange(len(images), device=settings.device) % 10
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.forward: Callable[[Tensor], Tensor] = self.model
        if compiled:
            self.forward = torch.compile(with_own_code(self.model), dynamic=False, mode=mode)
        self._cast = settings.dtype if settings.dtype != torch.float32 else None
        self.loss: Tensor

    def run(self) -> None:
        """One step; on a GPU it is queued only."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, self._cast, enabled=self._cast is not None):
            self.loss = F.cross_entropy(self.forward(self.images), self.labels)
        self.loss.backward()
        self.optimizer.step()

    def output(self) -> Tensor:
        """The loss of the last step."""
        return self.loss.detach().cpu()


def training_cells(model: str, modules: Sequence[str], **how: Any) -> list[Cell]:
    """The plain network as its library has it and with fused tails, and every module; eager and compiled."""
    return [
        Cell(model=model, module=module, runtime=runtime, deployed=fused, **how)
        for runtime in FORMS
        for module in modules
        for fused in ((False, True) if module == BASELINE else (False,))
    ]


@dataclass
class TrainingGroup(Group):
    """Training steps of a network, plain and with every module, eager and compiled."""

    @property
    def what(self) -> str:
        """Title for a progress bar."""
        return f"{self.cells[0].model}: {TRAINING} steps"

    def preparing(self, how: How) -> Prepare:
        """Networks are made when they are asked for."""
        first = self.cells[0]
        settings, backbones = how.settings(first.precision), {first.model: networks.backbone(first.model)}
        return lambda cell: _prepared(cell, networks.network(backbones, cell.model, cell.module), settings)

    def seconds(self, how: How) -> float:
        """By its multiply-adds: a step takes about three times as long as a forward pass."""
        return seconds_of(self, how, 3 * sum(networks.macs(cell.model) for cell in self.cells), ready_s=READY_S)


def _prepared(cell: Cell, made: Network, settings: Settings) -> Session:
    images = torch.randn((cell.batch, 3, *sides(cell.size)), generator=torch.Generator().manual_seed(1))
    start, held = time.perf_counter(), _held(settings.device)
    network = made.made()
    cell.form = networks.form_of(network)
    session = TrainingSession(network, images, settings, compiled=cell.runtime == COMPILED, fused=cell.deployed)
    session.run()
    if not bool(session.output().isfinite()):
        raise FloatingPointError("the loss is not finite")
    cell.setup_s = time.perf_counter() - start
    cell.device, cell.layout = session.device, session.layout
    _held(settings.device)  # the peak is counted from here: compiling may have needed more
    if session.asynchronous:
        session.run()
        torch.cuda.synchronize()
        cell.message = f"peak memory {(torch.cuda.max_memory_allocated(settings.device) - held) / 2**30:.3f} GiB"
    return session


def _held(device: torch.device) -> int:
    """Bytes that are allocated on a GPU now; its peak is counted anew."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
