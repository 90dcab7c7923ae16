"""A gate's description for the kernels of inference: which of them computes the same, and from what.

An extra that a module may have, never must: a class that defines `kernel` beside its `gate` says which function of
`recalib.ops.gates_triton` computes the same. Training takes the gate as it is written: there autograd needs what lies
between, and a training step is long enough for small kernels to be launched while large ones run.
"""

from typing import Any, NamedTuple

from torch import Tensor

from recalib.ops.capture import is_observed


class Kernel(NamedTuple):
    """A kernel that computes a gate.

    Attributes:
        name: of a function in `recalib.ops.gates_triton`.
        parameters: its tensors.
        numbers: what else it wants to know.
    """

    name: str
    parameters: tuple[Tensor | None, ...]
    numbers: tuple[float, ...] = ()


def kernel_of(gate: Any, size: int) -> Kernel | None:
    """Description of a gate's kernel, for maps of size H*W; None where its own operators have to compute it.

    A subclass that defines another `gate` is another gate: only what its very class says of a kernel counts.
    """
    describe = vars(type(gate)).get("kernel")
    if describe is None or any(map(is_observed, gate.children())):
        return None
    kernel: Kernel | None = describe(gate, size)
    return kernel
