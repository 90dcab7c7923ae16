"""Rough time of a group, so that nobody starts by mistake what takes a night."""

import functools
import time

import torch

from recalib.measure.session import Group, How
from recalib.measure.sizes import sides
from recalib.runtimes.openvino import WAVES
from recalib.runtimes.protocol import find_protocol
from recalib.runtimes.timer import BUDGET_S, FEWEST_ROUNDS, MOST_ROUNDS

START_S = 6.0  # a process that imports PyTorch and makes its networks
# seconds to make one network ready, its export and checks included: a ResNet-18's on one core of an AMD EPYC, rounded;
# deeper networks take longer, and so does what compiles without finding anything in inductor's cache
SETUP_S = {"eager": 0.5, "compile": 4.0, "onnxruntime": 2.0, "openvino": 2.0}
INT8_S = {False: 2.0, True: 7.0}  # to quantise: on noise, on images


def seconds_of(group: Group, how: How, macs: int, *, ready_s: float | None = None) -> float:
    """Seconds to measure a group: start, set-up and warm-up of every network, and the rounds that its budget gives.

    Right within a factor of three on a machine that does nothing else: enough to tell minutes from hours.

    Args:
        group: what is to be measured.
        how: how.
        macs: multiply-adds of one round: of all its networks for one image of 224 x 224 pixels.
        ready_s: to make one network ready; None for what the runtime usually takes.
    """
    if group.missing():
        return 0.0
    first = group.cells[0]
    runtime = first.runtime
    height, width = sides(first.size)
    round_s = macs * first.batch * height * width / 224**2 / _macs_a_second(how.threads or torch.get_num_threads())
    if runtime == "openvino-throughput":
        round_s *= WAVES * (how.threads or torch.get_num_threads())
    rounds = how.rounds or find_protocol(how.protocol).rounds
    by_budget = min(max(BUDGET_S, FEWEST_ROUNDS * round_s), MOST_ROUNDS * round_s)
    setup = ready_s or next((s for name, s in reversed(SETUP_S.items()) if runtime.startswith(name)), 5.0)
    if first.precision == "int8":
        setup += INT8_S[how.calibration is not None]
    warm_up = find_protocol(how.protocol).warm_up_s
    return START_S + len(group.cells) * (setup + warm_up) + 3 * round_s + (rounds * round_s if rounds else by_budget)


@functools.cache
def _macs_a_second(threads: int) -> float:
    """Speed of this machine in a middle layer of a ResNet, and half of it, since other layers do worse.

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
