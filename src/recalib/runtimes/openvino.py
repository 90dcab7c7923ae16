"""OpenVINO on a CPU: one request at a time, or as many in flight as fill the machine."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recalib.errors import not_installed
from recalib.runtimes.base import Runtime, Session, Settings, Unsupported, require_precision
from recalib.runtimes.export import ONNX_PACKAGES, once, to_onnx
from recalib.runtimes.quantize import calibration_batches, to_openvino_int8

PRECISIONS = {  # hint, capability; what int8 leaves in floating point stays float32
    "fp32": ("f32", "FP32"),
    "bf16": ("bf16", "BF16"),
    "fp16": ("f16", "FP16"),
    "int8": ("f32", "INT8"),
}
WAVES = 4  # requests of each kind in one run at full load: while the last ones end some cores wait, a share of it


class LatencySession(Session):
    """An inference request with its input and output in place, or, in the paper's protocol, copied."""

    def __init__(self, network: Any, example: Tensor, settings: Settings) -> None:
        self._request = _compile(network, settings, "LATENCY").create_infer_request()
        self._bound = settings.protocol.bound
        self._input = example.numpy().copy()
        self._request.set_input_tensor(_tensor(self._input, shared=self._bound))

    def run(self) -> None:
        """One forward pass."""
        if self._bound:
            self._request.start_async()  # infer() would copy the result
            self._request.wait()
        else:
            self._request.infer([self._input])

    def output(self) -> Tensor:
        """Outputs of the last `run`."""
        return _output(self._request)

    def infer(self, images: Tensor) -> Tensor:
        """The output for other images, which take the example's place."""
        np.copyto(self._input, images.numpy())
        self.run()
        return self.output()


class ThroughputSession(Session):
    """As many requests as OpenVINO calls optimal for the threads, each with its own input and output.

    One `run` starts `WAVES` times as many passes as there are requests, a request taking the next when it is done with
    one, and waits for all: its time divided by the passes is milliseconds a batch at full load, which is less than
    the latency of any of them.
    """

    def __init__(self, network: Any, example: Tensor, settings: Settings) -> None:
        import openvino

        self._queue = openvino.AsyncInferQueue(_compile(network, settings, "THROUGHPUT"))  # of the optimal length
        self._input = None if settings.protocol.bound else [example.numpy()]
        self.in_flight = len(self._queue)
        self.batches = WAVES * self.in_flight
        for request in self._queue:
            request.set_input_tensor(_tensor(example.numpy(), shared=False))

    def run(self) -> None:
        """`batches` forward passes."""
        for _ in range(self.batches):
            self._queue.start_async(self._input)
        self._queue.wait_all()

    def output(self) -> Tensor:
        """Outputs of the last pass of the first request."""
        return _output(self._queue[0])

    def infer(self, images: Tensor) -> Tensor:
        """The output for other images, of one request alone."""
        request = self._queue[0]
        request.infer([images.numpy()])
        return _output(request)


class OpenVINO(Runtime):
    """OpenVINO.

    Args:
        name: of the runtime.
        session: how requests follow each other.
    """

    def __init__(self, name: str, session: type[LatencySession | ThroughputSession]) -> None:
        self.name = name
        self._session = session

    @property
    def target(self) -> str:
        """Whatever the hint, the same kernels run."""
        return "openvino"

    def missing(self) -> str | None:
        """True if it and the exporter are installed."""
        return not_installed(("openvino", *ONNX_PACKAGES), "runtimes")

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> Any:
        """The network as ONNX in float32, of which OpenVINO makes a half precision when it compiles; or quantised."""
        if settings.precision != "int8":
            return to_onnx(model, example)

        if absent := not_installed(("nncf",), "runtimes"):
            raise Unsupported(f"int8: {absent}")

        def make() -> Any:
            batches = calibration_batches(settings.samples, example)
            return to_openvino_int8(_core().read_model(to_onnx(model, example)), batches)

        return once(model, ("nncf", tuple(example.shape), settings.samples), make)

    def load(self, network: Any, example: Tensor, settings: Settings) -> Session:
        """A compiled model and its requests."""
        return self._session(network, example, settings)


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _compile(network: Any, settings: Settings, hint: str) -> Any:
    """The network for this CPU.

    Raises:
        Unsupported: where it does not compute in that precision.
    """
    require_precision("openvino", settings, PRECISIONS)
    precision, capability = PRECISIONS[settings.precision]
    if capability not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported(f"openvino does not compute in {settings.precision} on this CPU; use --precision fp32")
    config = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": precision,  # its default is bf16 on CPUs that have it
        "INFERENCE_NUM_THREADS": settings.threads,
    }
    model = _core().read_model(network) if isinstance(network, bytes) else network
    return _core().compile_model(model, "CPU", config)


def _tensor(array: np.ndarray, *, shared: bool) -> Any:
    import openvino

    return openvino.Tensor(array, shared_memory=shared)


def _output(request: Any) -> Tensor:
    return torch.from_numpy(request.get_output_tensor().data.copy())
