"""PyTorch as it is, operator by operator."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings, require_precision


class EagerSession(Session):
    """A copy of the network in the settings' device, precision and layout."""

    def __init__(self, model: nn.Module, example: Tensor, settings: Settings) -> None:
        require_precision("PyTorch", settings, _precisions(settings.device))
        protocol, device = settings.protocol, settings.device
        memory_format = torch.channels_last if protocol.channels_last else torch.contiguous_format
        dtype = settings.dtype if protocol.bound else torch.float32
        place: Any = {"device": device, "dtype": dtype, "memory_format": memory_format}
        self.forward: Callable[[Tensor], Tensor] = copy.deepcopy(model).eval().to(**place)
        self.example = example.to(**place)
        self.device = device.type
        self.layout = "channels_last" if protocol.channels_last else "contiguous"
        self.asynchronous = device.type == "cuda"
        self._inference = protocol.inference_mode
        cast = dtype != settings.dtype
        self._autocast = torch.autocast(device.type, settings.dtype) if cast else contextlib.nullcontext()
        self._output: Tensor

    def run(self) -> None:
        """One forward pass; on a GPU it is queued only."""
        with torch.inference_mode(self._inference), self._autocast:
            self._output = self.forward(self.example)

    def output(self) -> Tensor:
        """Outputs of the last `run`, on the CPU."""
        return self._output.detach().cpu()

    def infer(self, images: Tensor) -> Tensor:
        """The output for other images, which take the example's place."""
        self.example.copy_(images)
        self.run()
        return self.output()


def _precisions(device: torch.device) -> tuple[str, ...]:
    return ("fp32", "tf32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16", "fp16")


class Eager(Runtime):
    """PyTorch's eager mode."""

    name = "eager"

    def load(self, network: nn.Module, example: Tensor, settings: Settings) -> Session:
        """A session that calls the module."""
        return EagerSession(network, example, settings)
