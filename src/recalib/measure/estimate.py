"""How long a group will take, roughly, so that nobody starts by mistake what takes a night."""

import functools
import time
from typing import TYPE_CHECKING

import torch

from recalib.cost.count import cost
from recalib.measure import networks
from recalib.measure.runner import Group
from recalib.measure.sizes import sides
from recalib.runtimes import find_runtime
from recalib.runtimes.openvino import WAVES
from recalib.runtimes.protocol import find_protocol
from recalib.runtimes.timer import BUDGET_S, FEWEST_ROUNDS, MOST_ROUNDS

if TYPE_CHECKING:
    from recalib.measure.grid import Grid

START_S = 6.0  # a process that imports PyTorch and makes its networks
# seconds to make one network ready, its export and checks included: a ResNet-18's on one core of an AMD EPYC, rounded;
# deeper networks take longer, and so does what compiles without finding anything in inductor's cache
SETUP_S = {"eager": 0.5, "compile": 4.0, "onnxruntime": 2.0, "openvino": 2.0}
INT8_S = {False: 2.0, True: 7.0}  # to quantise: on noise, on images


def seconds_of(group: Group, grid: "Grid") -> float:
    """Seconds to measure a group: start, set-up and warm-up of every network, and the rounds that its budget gives.

    Right within a factor of three on a machine that does nothing else: enough to tell minutes from hours.
    """
    if find_runtime(group.runtime).missing():
        return 0.0
    first = group.cells[0]
    height, width = sides(first.size)
    macs = sum(_macs(cell.model) for cell in group.cells) * first.batch * height * width / 224**2
    round_s = macs / _macs_a_second(grid.threads or torch.get_num_threads())
    if group.runtime == "openvino-throughput":
        round_s *= WAVES * (grid.threads or torch.get_num_threads())
    rounds = grid.rounds or find_protocol(grid.protocol).rounds
    by_budget = min(max(BUDGET_S, FEWEST_ROUNDS * round_s), MOST_ROUNDS * round_s)
    setup = next((s for name, s in reversed(SETUP_S.items()) if group.runtime.startswith(name)), 5.0)
    if first.precision == "int8":
        setup += INT8_S[grid.calibration is not None]
    warm_up = find_protocol(grid.protocol).warm_up_s
    return START_S + len(group.cells) * (setup + warm_up) + 3 * round_s + (rounds * round_s if rounds else by_budget)


@functools.cache
def _macs(model: str) -> int:
    """Multiply-adds of the plain network for one image of 224 x 224 pixels: attention adds next to none."""
    return cost(networks.backbone(model), (1, 3, 224, 224)).macs


@functools.cache
def _macs_a_second(threads: int) -> float:
    """What this machine does in a middle layer of a ResNet, and half of it, since other layers do worse.

    One thread is timed, at its best of many calls: two that wait for each other on a busy machine take forty times as
    long, which is not what a grid on a quiet one will see.
    """
    layer, x = torch.nn.Conv2d(128, 128, 3, padding=1, bias=False), torch.randn(1, 128, 28, 28)
    before, quickest = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(50):
                start = time.perf_counter()
                layer(x)
                quickest = min(quickest, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 0.5 * threads * 128 * 128 * 9 * 28 * 28 / quickest
