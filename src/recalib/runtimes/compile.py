"""torch.compile with its default back end, inductor."""

import shutil
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings
from recalib.runtimes.eager import EagerSession


class CompiledSession(EagerSession):
    """As in eager mode, compiled; the first `run` compiles (with PyTorch's caches: a second time is quicker)."""

    def __init__(self, model: nn.Module, example: Tensor, settings: Settings) -> None:
        super().__init__(model, example, settings)
        # weights as constants: batch norms fold into convolutions and weights are packed once; needs autograd off
        options: Any = {"freezing": True} if settings.protocol.inference_mode else None
        self.forward = torch.compile(with_own_code(self.forward), dynamic=False, options=options)


def with_own_code(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function whose code object is its own.

    Compiled code is kept, searched and limited to eight entries per code object, which all networks of a class
    share: from the ninth on they would silently run in eager mode.
    """

    def forward(x: Tensor) -> Tensor:
        return model(x)

    return FunctionType(forward.__code__.replace(), forward.__globals__, closure=forward.__closure__)


class Compile(Runtime):
    """torch.compile."""

    name = "compile"

    def missing(self) -> str | None:
        """Inductor writes C++ for the CPU, Triton for a GPU; only the former needs something installed."""
        if torch.cuda.is_available() or any(map(shutil.which, ("g++", "clang++", "cl"))):
            return None
        return "torch.compile needs a C++ compiler: apt-get install g++"

    def load(self, network: nn.Module, example: Tensor, settings: Settings) -> Session:
        """A session that compiles at its first run."""
        return CompiledSession(network, example, settings)
