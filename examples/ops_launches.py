"""Kernels of the (N, C)-sized part of a tail: what stands between `moments` and `integrate`, counted without a GPU.

Eager: operators that a tail on a (fake) GPU dispatches, views apart, each of which launches one kernel or more.
Compiled: kernels that Inductor makes of the whole part written in plain operators, and the library calls that it keeps.

    python examples/ops_launches.py
"""

import re
from dataclasses import dataclass

import torch
import tyro
from torch import nn
from torch._inductor import metrics
from torch._inductor.utils import run_and_get_code
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from recalib import create_attention
from recalib.ops import Moments
from recalib.ops.tail import tail


@dataclass
class Arguments:
    """Launches a tail, forward."""

    modules: tuple[str, ...] = ("ab", "eca", "se", "srm", "multi_se", "gct")
    channels: int = 256


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


def main(arguments):
    print(
        "module     eager, evaluation / no norm / training    compiled, evaluation / training (kernels + library calls)"
    )
    for name in arguments.modules:
        counts = [eager(name, arguments.channels, *mode) for mode in ((False, True), (False, False), (True, True))]
        made = ["{} + {}".format(*compiled(name, arguments.channels, training)) for training in (False, True)]
        print(f"{name:10}", *counts, *made, sep="   ")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
