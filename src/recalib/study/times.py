"""Time of attention at each site, deployed: whole networks timed in turn, with it and without."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recalib.deploy.deploy import deploy
from recalib.deploy.graph import module_of, shapes_of, trace
from recalib.runtimes import Settings, find_protocol, find_runtime
from recalib.runtimes.timer import interleave, warm_up
from recalib.study.frozen import gates_of
from recalib.surgery import remove_

Range = tuple[float, float, float]
"""A value with the lower and the upper end of its 95 % interval."""


@dataclass(frozen=True)
class SiteTimes:
    """Milliseconds that attention takes in a deployed network.

    Sites of one kind, with as many channels and pixels, share what all of them take together.

    Attributes:
        ranges: time of each site, by the name of its module.
        full: the network with all its attention, in milliseconds.
        plain: without any.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    full: float = float("nan")
    plain: float = float("nan")

    def costs(self) -> dict[str, float]:
        """Milliseconds that freezing each site is worth: its own where they can be told from none.

        The others share alike in what all sites take together; where that cannot be told either, all count alike.
        """
        alike = (self.full - self.plain) / max(len(self.ranges), 1)
        if not alike > 0:
            return dict.fromkeys(self.ranges, 1.0)
        told = {name: ms for name, (ms, low, _) in self.ranges.items() if low > 0}
        return {name: told.get(name, alike) for name in self.ranges}

    def interval(self, name: str | None) -> Range | None:
        """Of a site, None where it was not timed."""
        return self.ranges.get(name or "")


def site_times(model: nn.Module, gates: Sequence[str], example: Tensor, target: str, rounds: int = 30) -> SiteTimes:
    """Time a deployed network with all its attention, without that of each kind of site, and without any.

    Args:
        model: on the CPU or a GPU.
        gates: names of the attention modules.
        example: an input (N, 3, H, W).
        target: a runtime of `recalib.runtimes`.
        rounds: timings of each network, in turn.

    Raises:
        RecalibError: for a runtime that is unknown, or not installed.
    """
    kinds: dict[tuple[int, ...], list[str]] = {}
    for name, shape in _shapes(model, example).items():
        if name in gates:
            kinds.setdefault(shape, []).append(name)
    without = [*kinds.values(), list(gates)]
    networks = [model, *(stripped(model, names) for names in without)]
    taken = latencies(networks, example, target, rounds)
    ranges: dict[str, Range] = {}
    for i, names in enumerate(kinds.values()):
        each = _range(taken[:, 0] - taken[:, 1 + i], lambda saved: np.median(saved, -1), len(names))
        ranges |= dict.fromkeys(names, each)
    return SiteTimes(ranges, float(np.median(taken[:, 0])), float(np.median(taken[:, -1])))


def latencies(networks: Sequence[nn.Module], example: Tensor, target: str, rounds: int) -> NDArray[np.float64]:
    """Milliseconds of deployed networks timed in turn, shape (rounds, networks)."""
    runtime = find_runtime(target)
    settings = Settings("fp32", torch.get_num_threads(), example.device, find_protocol("clean"))
    shape = tuple(example.shape)
    with torch.enable_grad():  # what a session does is its own affair
        sessions = [
            runtime.prepare(deploy(network, shape, target=runtime.target), example.cpu(), settings)  # type: ignore[arg-type]
            for network in networks
        ]
        for session in sessions:
            warm_up(session, 0.2)
        samples = list(interleave(sessions, rounds))
    return np.array([[sample.latency_ms for sample in round] for round in samples])


def stripped(model: nn.Module, gates: Sequence[str]) -> nn.Module:
    """A copy of a network without the attention of these names."""
    plain = copy.deepcopy(model).eval()
    remove_(plain, [name.removesuffix(".attention") for name in gates])
    return plain


def _range(saved: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]], sites: int) -> Range:
    """A statistic over rounds a site, with its interval by the bootstrap over rounds."""
    drawn = np.random.default_rng(0).integers(len(saved), size=(2000, len(saved)))
    low, high = np.quantile(statistic(saved[drawn]), [0.025, 0.975])
    return float(statistic(saved)) / sites, float(low) / sites, float(high) / sites


def _shapes(model: nn.Module, example: Tensor) -> dict[str, tuple[int, ...]]:
    """Channels and pixels of the map that each gate reads."""
    graph = trace(model)
    shapes = shapes_of(graph, example)
    found: dict[str, tuple[int, ...]] = {}
    for name, node in gates_of(graph).items():
        shape = shapes[node]
        gate = module_of(graph, node)
        found[name] = (int(shape[1]), int(shape[2] * shape[3]), hash(type(gate)))
    return found
