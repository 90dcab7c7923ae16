"""OpenVINO on a CPU."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings, Unsupported, not_installed, require_precision
from recalib.runtimes.export import ONNX_PACKAGES, to_onnx

PRECISIONS = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16")}  # hint, capability


class OpenVINOSession(Session):
    """An inference request with its input and output in place, or, in the paper's protocol, copied."""

    def __init__(self, network: bytes, example: Tensor, settings: Settings) -> None:
        import openvino

        require_precision("openvino", settings, PRECISIONS)
        hint, capability = PRECISIONS[settings.precision]
        if capability not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unsupported(f"openvino does not compute in {settings.precision} on this CPU; use --precision fp32")
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,  # its default is bf16 on CPUs that have it
            "INFERENCE_NUM_THREADS": settings.threads,
        }
        compiled = _core().compile_model(_core().read_model(network), "CPU", config)
        self._request = compiled.create_infer_request()
        self._bound = settings.protocol.bound
        self._input = example.numpy()
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=self._bound))

    def run(self) -> None:
        """One forward pass."""
        if self._bound:
            self._request.start_async()  # infer() would copy the result
            self._request.wait()
        else:
            self._request.infer([self._input])

    def output(self) -> Tensor:
        """What the last `run` gave."""
        return torch.from_numpy(self._request.get_output_tensor().data.copy())


class OpenVINO(Runtime):
    """OpenVINO."""

    name = "openvino"

    def missing(self) -> str | None:
        """Whether it and the exporter are installed."""
        return not_installed(("openvino", *ONNX_PACKAGES), "runtimes")

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> bytes:
        """The network as ONNX in float32; OpenVINO chooses its precision when it compiles."""
        return to_onnx(model, example)

    def load(self, network: bytes, example: Tensor, settings: Settings) -> Session:
        """A compiled model and one request."""
        return OpenVINOSession(network, example, settings)


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()
