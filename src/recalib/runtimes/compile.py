"""torch.compile with its default back end, inductor, in several modes."""

import shutil
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings
from recalib.runtimes.eager import EagerSession


class CompiledSession(EagerSession):
    """As in eager mode, compiled; the first `run` compiles (with PyTorch's caches: a second time is quicker)."""

    def __init__(self, model: nn.Module, example: Tensor, settings: Settings, options: Mapping[str, Any]) -> None:
        super().__init__(model, example, settings)
        # weights as constants: batch norms fold into convolutions and weights are packed once; needs autograd off
        freezing = {"freezing": True} if settings.protocol.inference_mode else {}
        chosen: Any = {**freezing, **options}
        self.forward = torch.compile(with_own_code(self.forward), dynamic=False, options=chosen)


def with_own_code(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function whose code object is its own.

    Compiled code is kept, searched and limited to eight entries per code object, which all networks of a class
    share: from the ninth on they would silently run in eager mode.
    """

    def forward(x: Tensor) -> Tensor:
        return model(x)

    return FunctionType(forward.__code__.replace(), forward.__globals__, closure=forward.__closure__)


# what torch.compile(mode="max-autotune") sets: options and a mode cannot be given together
MAX_AUTOTUNE = {"max_autotune": True, "triton.cudagraphs": True, "coordinate_descent_tuning": True}
# inductor turns whole networks of convolutions to channels_last unless told not to
NO_LAYOUT = {"layout_optimization": False}


class Compile(Runtime):
    """torch.compile.

    Args:
        name: of the runtime.
        options: of inductor, instead of its defaults.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = options

    @property
    def target(self) -> str:
        """Whatever the options, inductor fuses the same operators."""
        return "compile"

    def missing(self) -> str | None:
        """Inductor writes C++ for the CPU, Triton for a GPU; only the former needs something installed."""
        if torch.cuda.is_available() or any(map(shutil.which, ("g++", "clang++", "cl"))):
            return None
        return "torch.compile needs a C++ compiler: apt-get install g++"

    def load(self, network: nn.Module, example: Tensor, settings: Settings) -> Session:
        """A session that compiles at its first run."""
        return CompiledSession(network, example, settings, self._options)
