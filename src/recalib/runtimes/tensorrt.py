"""TensorRT. Never run by the authors, for want of a GPU."""

from typing import Any

from torch import Tensor, nn

from recalib.runtimes import engine
from recalib.runtimes.base import Runtime, Session, Settings, require_precision
from recalib.runtimes.quantize import onnx_in

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8")


class TensorRTSession(Session):
    """An engine with its input and output in place, or, in the paper's protocol, copied."""

    device = "cuda"
    asynchronous = True

    def __init__(self, network: bytes, example: Tensor, settings: Settings) -> None:
        self._engine = engine.Engine(engine.engine(network, tuple(example.shape), settings.precision))
        self._example = None if settings.protocol.bound else example.to(self._engine.input.dtype)
        self._engine.input.copy_(example)

    def run(self) -> None:
        """Queue one forward pass; in the paper's protocol, with its copies, which wait for it."""
        if self._example is not None:
            self._engine.input.copy_(self._example)
        self._engine.run()
        if self._example is not None:
            self._engine.output.cpu()

    def output(self) -> Tensor:
        """Outputs of the last `run`, on the CPU."""
        return self._engine.output.cpu()

    def infer(self, images: Tensor) -> Tensor:
        """The output for other images, which take the example's place."""
        self._engine.input.copy_(images)
        self._engine.run()
        return self.output()


class TensorRT(Runtime):
    """TensorRT; engines are kept in the user's cache, so that set-up is short the second time."""

    name = "tensorrt"
    tried = False

    def missing(self) -> str | None:
        """True if it, the exporter and a GPU are there."""
        return engine.missing()

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> bytes:
        """The network as ONNX, in the types that it is to compute in."""
        require_precision(self.name, settings, PRECISIONS)
        return onnx_in(model, example, settings, "int8")

    def load(self, network: Any, example: Tensor, settings: Settings) -> Session:
        """A session of an engine."""
        return TensorRTSession(network, example, settings)
