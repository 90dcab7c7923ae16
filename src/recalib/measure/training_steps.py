"""Training steps of whole networks, eager and compiled, in turn."""

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.measure.cells import BASELINE, Cell
from recalib.measure.group import Candidate, Progress, conclude
from recalib.measure.networks import Network
from recalib.measure.sizes import sides
from recalib.measure.targets import TRAINING
from recalib.runtimes import Session, Settings, timer
from recalib.runtimes.compile import with_own_code
from recalib.runtimes.memory import free_memory, is_out_of_memory
from recalib.surgery import fuse_

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


def measure_training(
    cells: Sequence[Cell],
    made: Callable[[str, str], Network],
    settings: Settings,
    rounds: int | None,
    progress: Progress,
) -> list[Cell]:
    """Steps of all networks in turn; what fails gets its status, and the others go on.

    Args:
        cells: see `training_cells`; where ``deployed`` stands for tails that are fused.
        made: the network of a model and module.
        settings: how to run.
        rounds: samples a cell; None for what fits a time budget.
        progress: told of every step.
    """
    candidates = [Candidate(cell, made(cell.model, cell.module)) for cell in cells]
    for done, candidate in enumerate(candidates):
        progress(f"{candidate.cell.model}: {candidate.cell.runtime}, {candidate.cell.module}", done, len(candidates))
        try:
            candidate.session = _prepared(candidate, settings)
        except Exception as error:  # of whatever kind: the other networks are still to be measured
            _record(candidate.cell, error)
        if candidate.session is None:
            free_memory()
    ready = [one for one in candidates if one.session is not None]
    sessions = [one.session for one in ready if one.session is not None]
    try:
        for done, samples in enumerate(timer.interleave(sessions, rounds) if sessions else (), start=1):
            for one, sample in zip(ready, samples, strict=True):
                one.samples.append(sample)
            progress(f"{cells[0].model}: {TRAINING} steps, timing", done, rounds or 0)
    except Exception as error:  # after every one of them has run a step: nobody knows whose fault it is
        for one in ready:
            _record(one.cell, error)
            one.samples.clear()
    return conclude(candidates, settings.protocol)


def _record(cell: Cell, error: Exception) -> None:
    cell.status = "oom" if is_out_of_memory(error) else "failed"
    cell.message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _prepared(candidate: Candidate, settings: Settings) -> Session:
    cell = candidate.cell
    images = torch.randn((cell.batch, 3, *sides(cell.size)), generator=torch.Generator().manual_seed(1))
    start, held = time.perf_counter(), _held(settings.device)
    session = TrainingSession(
        candidate.network.made(), images, settings, compiled=cell.runtime == COMPILED, fused=cell.deployed
    )
    session.run()
    if not bool(session.output().isfinite()):
        raise FloatingPointError("the loss is not finite")
    cell.setup_s = time.perf_counter() - start
    cell.device, cell.layout = session.device, session.layout
    _held(settings.device)  # the peak is counted from here: compiling may have needed more
    timer.warm_up(session, settings.protocol.warm_up_s)
    if session.asynchronous:
        cell.message = f"peak memory {(torch.cuda.max_memory_allocated(settings.device) - held) / 2**30:.3f} GiB"
    return session


def _held(device: torch.device) -> int:
    """Bytes that are allocated on a GPU now; its peak is counted anew."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
