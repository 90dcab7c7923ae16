"""The passes over the activation, each against a copy of the same map: what share of the bandwidth they reach."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recalib.errors import WorkFailed
from recalib.measure.statistics import ratio_interval
from recalib.ops import passes
from recalib.runs.environment import code_version
from recalib.runtimes import Session, Settings, find_protocol, timer
from recalib.runtimes.cuda_graph import record
from recalib.runtimes.machine import describe
from recalib.runtimes.memory import free_memory
from recalib.version import code_digest

GPU_MAP, CPU_MAP = (256, 256, 56, 56), (8, 256, 56, 56)  # the largest tails of a ResNet-50
LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
WARM_UP_S = 0.2
REPLAYS = 10  # passes in one replay on a GPU: a single one would be timed with its launch
COPY, NEW_COPY = "copy", "copy to a new map"
Step = Callable[[], Any]


@dataclass
class TimedPass:
    """A pass over one map.

    Attributes:
        name: of the pass, or ``"copy"``.
        layout: of the map.
        shape: (N, C, H, W).
        dtype: of the map.
        bytes: read and written.
        ms: a sample a round, of one pass.
        gb_per_s: bytes over the median time, 10^9 a second.
        share: of the copy's bandwidth, with its 95 % interval.
    """

    name: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    ms: list[float]
    gb_per_s: float
    share: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self)


class Repeated(Session):
    """A step, on a GPU as a graph of `REPLAYS` of them."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self.device, self.asynchronous = device.type, device.type == "cuda"
        self.times = REPLAYS if self.asynchronous else 1
        self._step = record(lambda: _repeat(step)).replay if self.asynchronous else step

    def run(self) -> None:
        """The steps, one after the other."""
        self._step()

    def output(self) -> Tensor:
        """Nothing: what steps compute is checked beforehand."""
        return torch.empty(0)


def _repeat(step: Step) -> None:
    for _ in range(REPLAYS):  # what a step makes is given back before the next: ten maps would be 4 GB
        step()


def measure_kernels(
    device: torch.device,
    shape: Sequence[int] | None = None,
    rounds: int | None = None,
    layouts: Sequence[str] = tuple(LAYOUTS),
) -> list[TimedPass]:
    """Time every pass of the device's backend and a copy, in turn; first their results are checked against float64.

    Args:
        device: a GPU (bfloat16) or the CPU (float32).
        shape: of the map; by default the largest of a ResNet-50, at batch 256 on a GPU and 8 on a CPU.
        rounds: samples; None for what fits a time budget.
        layouts: names in `LAYOUTS`, one after the other; memory is given back between them.

    Raises:
        WorkFailed: where a pass does not compute what it should.
    """
    on_gpu = device.type == "cuda"
    shape = tuple(shape or (GPU_MAP if on_gpu else CPU_MAP))
    dtype = torch.bfloat16 if on_gpu else torch.float32
    found = []
    for layout in layouts:
        steps = _steps(shape, dtype, device, LAYOUTS[layout])
        sessions = [Repeated(step, device) for step, _ in steps.values()]
        for session in sessions:
            timer.warm_up(session, WARM_UP_S)
        rows = [[s.latency_ms for s in samples] for samples in timer.interleave(sessions, rounds)]
        times = {name: [row[i] / sessions[i].times for row in rows] for i, name in enumerate(steps)}
        volume = torch.Size(shape).numel() * dtype.itemsize
        for name, (_, maps) in steps.items():
            # what a pass would take at the copy's bandwidth, over what it takes
            scaled = [ms * maps / steps[COPY][1] for ms in times[COPY]]
            speed = maps * volume / float(np.median(times[name])) / 1e6
            share = ratio_interval(scaled, times[name])._asdict()
            found.append(
                TimedPass(name, layout, shape, str(dtype).split(".")[1], maps * volume, times[name], speed, share)
            )
        del steps, sessions, session
        free_memory()
    return found


def _steps(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, layout: torch.memory_format
) -> dict[str, tuple[Step, int]]:
    """Passes and copies by name, each with the maps that it reads and writes."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device)

    x, r, dy = (draw(*shape).to(dtype).contiguous(memory_format=layout) for _ in range(3))
    scale, shift, centre = draw(*shape[:2]), draw(*shape[:2]), draw(shape[1])
    backend = passes.backend_of(x)
    stats = backend.moments(x, 2)
    d_stats = torch.randn_like(stats)
    y = backend.integrate(x, centre, scale, shift, r, True)
    dm, sums = backend.mask_and_reduce(dy, y, x, centre, True)
    dx = backend.differentiate(dm, scale, x, stats, d_stats)
    _check(x, r, dy, scale, shift, centre, d_stats, stats=stats, y=y, dm=dm, sums=sums, dx=dx)
    return {
        COPY: (lambda: dx.copy_(x), 2),
        NEW_COPY: (lambda: torch.empty_like(x).copy_(x), 2),
        "moments": (lambda: backend.moments(x, 2), 1),
        "moments, mean only": (lambda: backend.moments(x, 1), 1),
        "integrate": (lambda: backend.integrate(x, centre, scale, shift, r, True), 3),
        "mask_and_reduce": (lambda: backend.mask_and_reduce(dy, y, x, centre, True), 4),
        "differentiate": (lambda: backend.differentiate(dm, scale, x, stats, d_stats), 3),
    }


def _check(
    x: Tensor, r: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, centre: Tensor, d_stats: Tensor, **got: Tensor
) -> None:
    """Compare the first and last image with the formulas in float64: a wrong pass has no bandwidth."""
    ends = [0, -1]
    x, r, dy, y, dm, dx = (t[ends].double() for t in (x, r, dy, got["y"], got["dm"], got["dx"]))
    a, b, c = (t[..., None, None].double() for t in (scale[ends], shift[ends], centre))
    g_mean, g_var = (t[..., None, None].double() for t in d_stats[:, ends])
    mean = x.mean((2, 3), keepdim=True)
    size = x.shape[2] * x.shape[3]
    masked = torch.where(y <= 0, 0, dy)
    expected = {
        "stats": (got["stats"][:, ends], torch.stack((mean, (x - mean).square().mean((2, 3), True)))[..., 0, 0]),
        "y": (y, (a * (x - c) + b + r).relu()),
        "dm": (dm, masked),
        "sums": (got["sums"][:, ends], torch.stack((masked, masked * (x - c))).sum((3, 4))),
        "dx": (dx, a * masked + (g_mean + 2 * g_var * (x - mean)) / size),
    }
    for name, (found, exact) in expected.items():
        error = float((found - exact).norm() / exact.norm())
        if not error < 1e-2:  # bfloat16 rounds by 2e-3
            raise WorkFailed(f"{name} of a map {tuple(x.shape)} differs by {error:.1e} from float64")


def kernels_to_file(out: Path, device: torch.device, command: str = "", **how: Any) -> list[TimedPass]:
    """Measure the passes on a device and add them to a file of JSON lines, below lines for the run and the machine.

    A layout is on the disk before the next begins, and one that fails is a line that says why.

    Raises:
        WorkFailed: where all of them fail.
    """
    precision = "bf16" if device.type == "cuda" else "fp32"
    settings = Settings(precision, torch.get_num_threads(), device, find_protocol("clean"))
    about = {"command": command, "code": code_digest(), "source": code_version()}
    out.parent.mkdir(parents=True, exist_ok=True)
    kernels: list[TimedPass] = []
    failure: Exception | None = None
    with out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in ({"run": about}, {"machine": describe(settings)}))
        for layout in LAYOUTS:
            try:
                found = measure_kernels(device, layouts=[layout], **how)
                lines = [kernel.to_dict() for kernel in found]
                kernels += found
            except Exception as error:  # of whatever kind: the other layout is still to be measured
                failure, lines = error, [{"layout": layout, "failed": f"{type(error).__name__}: {error}"}]
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            free_memory()
    if not kernels:
        raise WorkFailed(f"no pass could be measured: {failure}")
    return kernels
