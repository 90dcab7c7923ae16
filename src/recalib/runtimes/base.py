"""The interface of a runtime: something that runs networks, and a session: one network ready to run in it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError
from recalib.runtimes.protocol import Protocol
from recalib.runtimes.samples import Samples

Target = Literal["eager", "compile", "onnxruntime", "openvino", "tensorrt"]
"""Targets of `recalib.deploy`."""

# how a network computes, and what PyTorch holds it in
DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,
}


class Unsupported(RecalibError):
    """A runtime cannot run a network this way; the message says why and, if anything does, what helps."""


@dataclass(frozen=True)
class Settings:
    """Settings of sessions.

    Attributes:
        precision: a name in `DTYPES`.
        threads: of the CPU, for one forward pass.
        device: where PyTorch runs; other runtimes use the CPU if they know no such device.
        protocol: what is inside the timed region.
        samples: what int8 is calibrated on, of the example's H and W; None for noise.
    """

    precision: str
    threads: int
    device: torch.device
    protocol: Protocol
    samples: Samples | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network in PyTorch; int8 is made of float32."""
        return DTYPES[self.precision]

    @property
    def tf32(self) -> bool:
        """True if float32 convolutions and products round their operands to TF32."""
        return self.precision == "tf32"


class Session(ABC):
    """One network with its input in place.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        layout: of the feature maps: ``"channels_last"``, ``"contiguous"`` or ``"runtime's own"``.
        in_flight: requests that are worked on at the same time.
        batches: forward passes in one `run`; the timer divides by it.
        asynchronous: whether `run` returns when the work is queued on PyTorch's current stream, not when it is done.
        setup_s: seconds that the runtime took to make the network ready and to run it for the first time.
    """

    device: str = "cpu"
    layout: str = "runtime's own"
    in_flight: int = 1
    batches: int = 1
    asynchronous: bool = False
    setup_s: float = 0.0

    @abstractmethod
    def run(self) -> None:
        """One forward pass, or `batches` of them."""

    @abstractmethod
    def output(self) -> Tensor:
        """Outputs of the last `run`, on the CPU."""

    def infer(self, images: Tensor) -> Tensor:
        """Outputs for other images; not to be timed, and not there where a session only times something.

        Args:
            images: of the example's shape, float32, on the CPU; they may stay in the example's place.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no other images")


class Runtime(ABC):
    """Something that runs networks; `recalib.runtimes.RUNTIMES` lists them by name.

    Attributes:
        name: as commands take it.
        tried: False where the authors had no machine to run it on; commands say so.
    """

    name: str
    tried: bool = True

    @property
    def target(self) -> str:
        """The target of `recalib.deploy` that suits it.

        Its own name by default; that of the plainest form, ``"compile"``, for a runtime that `deploy` does not know.
        """
        return self.name if self.name in get_args(Target) else "compile"

    def missing(self) -> str | None:
        """Reason why this runtime cannot be used on this machine, with the command that mends it; None if it can."""
        return None

    def require(self) -> None:
        """Do nothing if this runtime can be used.

        Raises:
            Unsupported: with what `missing` says.
        """
        if reason := self.missing():
            raise Unsupported(reason)

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> Any:
        """The network in the form that the runtime reads; may be shared with other runtimes, so it is not set-up."""
        return model

    @abstractmethod
    def load(self, network: Any, example: Tensor, settings: Settings) -> Session:
        """A session from what `translate` gave."""

    def prepare(self, model: nn.Module, example: Tensor, settings: Settings) -> Session:
        """Make a network ready to run; the model itself is left as it is.

        Args:
            model: in evaluation mode, float32, on the CPU.
            example: the input, shape (N, 3, H, W), float32, on the CPU.
            settings: how to run.

        Raises:
            Unsupported: if the runtime cannot, with the reason.
        """
        self.require()
        network = self.translate(model, example, settings)
        start = time.perf_counter()
        session = self.load(network, example, settings)
        session.run()
        if session.asynchronous:
            torch.cuda.synchronize()
        session.setup_s = time.perf_counter() - start
        return session


def require_precision(runtime: str, settings: Settings, supported: Iterable[str]) -> None:
    """Do nothing if a runtime computes in the precision of the settings.

    Raises:
        Unsupported: naming those in which it does.
    """
    if settings.precision not in (names := list(supported)):
        have = ", ".join(names)
        raise Unsupported(f"{runtime} has no {settings.precision} on this {settings.device.type}; it has {have}")
