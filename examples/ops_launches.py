"""Launches and Python of a tail on a GPU, counted without one.

Inference: launches of a remembered plan at the tails of a ResNet-50, batch 1, by a driver that takes launches in place
of a GPU; and its Python, beside that of the operators which a plan replaces and of the two calls of torch's that a tail
replaces, thread processor time in turn.
Training: operators between the passes that a tail on a (fake) GPU dispatches, views apart, each of which launches one
kernel or more; and kernels that Inductor makes of the whole part in plain operators, with the library calls it keeps.

    python examples/ops_launches.py --json results/ops_launches.json       # a minute; raw samples
"""

import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import nn
from torch._inductor import metrics
from torch._inductor.utils import run_and_get_code
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from recalib import create_attention
from recalib.attention import PAPER
from recalib.deploy.tails import Tail
from recalib.ops import Moments, passes, passes_triton, plans_triton
from recalib.ops.tail import tail
from recalib.runs.environment import code_version
from recalib.runtimes.base import Settings
from recalib.runtimes.machine import describe
from recalib.runtimes.protocol import find_protocol

ROOT = Path(__file__).parents[1]
SITES = {256: 56, 512: 28, 1024: 14, 2048: 7}  # channels and sides of the tails of a ResNet-50


@dataclass
class Arguments:
    """Launches a tail, forward."""

    modules: tuple[str, ...] = PAPER
    channels: int = 256
    """of the training tail"""
    rounds: int = 200
    """samples of the Python of a tail, each of five calls"""
    json: Path | None = None
    """where to write the raw samples"""


class Listen(TorchDispatchMode):
    """Names of the operators that compute something."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        namespace, name = function.name().split("::")
        if not (function.is_view or namespace == "prim" or name.startswith(("empty", "detach"))):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def eager(name, channels, training, with_norm):
    """Operators between the two passes; with gradients, so that all of them are seen."""
    with FakeTensorMode(), torch.device("cuda"):
        norm = nn.BatchNorm2d(channels).train(training) if with_norm else None
        gate = create_attention(name, channels).train(training)
        x, residual = (torch.randn(1 + training, channels, 14, 14, requires_grad=True) for _ in range(2))
        with Listen() as listen:
            tail(x, norm, gate, residual, True)
    return listen.names.index("integrate") - listen.names.index("moments") - 1


def compiled(name, channels, training):
    """Kernels and library calls of the compiled part."""
    norm, gate = nn.BatchNorm2d(channels).train(training), create_attention(name, channels).train(training)

    def part(mean, variance, weight, bias, centre, spread):
        if training:
            centre = mean.mean(0)
            spread = (variance + (mean - centre).square()).mean(0)
            norm.running_mean.lerp_(centre, 0.1)
            norm.running_var.lerp_(spread, 0.1)
        a = weight * (spread + norm.eps).rsqrt()
        moments = Moments(a * (mean - centre) + bias, a.square() * variance if gate.needs_variance else None, 196)
        scale, shift = gate.affine(moments)
        return a if scale is None else scale * a, bias if shift is None else bias + shift

    torch._dynamo.reset()
    metrics.reset()
    rows = (torch.rand(2, channels) for _ in range(2))
    with torch.no_grad():
        compiled = torch.compile(part, fullgraph=True)
        _, (code,) = run_and_get_code(compiled, *rows, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    library = re.findall(r"^ +(?:buf\d+ = )?(?:extern_kernels|torch\.ops\.(?:mkl|mkldnn|aten))\S*\(", code, re.M)
    return metrics.generated_kernel_count, len(library)


def stand_in():
    """The driver that takes launches in place of a GPU, as Triton's; kernels then run wherever tensors lie."""
    import triton

    sys.path.insert(0, str(ROOT))
    from tests.ops.stand_in import PROCESSORS, StandIn

    driver = StandIn()
    passes.has_kernels = lambda _: True
    passes_triton.processors = lambda _: PROCESSORS
    triton.runtime.driver._active = driver
    return driver


def maps(channels, side):
    layout = torch.channels_last
    return [torch.randn(1, channels, side, side).bfloat16().contiguous(memory_format=layout) for _ in range(2)]


def planned(name, driver):
    """Launches of a plan, and of the operators that it replaces with the calls of torch's between them, by site."""
    found = {"plan": [], "operators": []}
    for channels, side in SITES.items():
        gate = create_attention(name, channels).eval().requires_grad_(False)
        x, residual = maps(channels, side)
        found["plan"].append(len(plans_triton.plan(x, None, gate, residual, True)._steps))
        before = len(driver.launches)
        with torch.inference_mode(), Listen() as listen:
            tail(x, None, gate, residual, True)
        others = [one for one in listen.names if one not in ("moments", "integrate")]
        found["operators"].append(len(driver.launches) - before + len(others))
    return found


def python_of(name, driver, rounds):
    """Microseconds of a tail's Python in turn: by a plan, by operators, and the two calls of torch's."""
    driver.records = False
    module = Tail(create_attention(name, 1024), True).eval().requires_grad_(False)
    x, residual = maps(1024, 14)
    small = torch.zeros(1, 4, 2, 2)
    calls = {
        "plan": lambda: module(x, residual),
        "operators": lambda: tail(x, None, module.attention, residual, True),
        "add_ and relu_": lambda: small.add_(small).relu_(),
    }
    samples = {what: [] for what in calls}
    with torch.inference_mode():
        for number in range(-5, rounds):
            for what, call in calls.items():
                start = time.thread_time_ns()
                for _ in range(5):
                    call()
                if number >= 0:
                    samples[what].append((time.thread_time_ns() - start) / 5e3)
    driver.records = True
    return samples


def main(arguments):
    trained = {}
    print(
        "module     eager, evaluation / no norm / training    compiled, evaluation / training (kernels + library calls)"
    )
    for name in arguments.modules:
        counts = [eager(name, arguments.channels, *mode) for mode in ((False, True), (False, False), (True, True))]
        made = [compiled(name, arguments.channels, training) for training in (False, True)]
        trained[name] = {"operators between the passes": counts, "inductor": made}
        print(f"{name:10}", *counts, *("{} + {}".format(*one) for one in made), sep="   ")
    driver, rows = stand_in(), []
    print("\nmodule     launches at 56, 28, 14, 7: plan, operators      us of Python: plan, operators, add_ and relu_")
    for name in arguments.modules:
        launched, samples = planned(name, driver), python_of(name, driver, arguments.rounds)
        tenth = {what: round(sorted(taken)[len(taken) // 10], 1) for what, taken in samples.items()}
        rows.append({"module": name, "launches": launched, "fastest_tenth_us": tenth, "us": samples, **trained[name]})
        print(f"{name:10}", *launched.values(), *tenth.values(), sep="   ")
    if arguments.json:
        settings = Settings("bf16", 1, torch.device("cpu"), find_protocol("clean"))
        about = {"command": " ".join(["python", *sys.argv]), "code": code_version(), "machine": describe(settings)}
        about["sites"] = [[1, channels, side, side] for channels, side in SITES.items()]
        arguments.json.write_text(json.dumps({**about, "modules": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
