"""ONNX Runtime: on the CPU, on an NVIDIA GPU, or through TensorRT, by execution provider."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recalib.cache import cache_folder
from recalib.errors import not_installed
from recalib.runtimes.base import Runtime, Session, Settings, Unsupported, require_precision
from recalib.runtimes.export import ONNX_PACKAGES
from recalib.runtimes.quantize import Activations, onnx_in


@dataclass(frozen=True)
class Provider:
    """Provider of ONNX Runtime.

    Attributes:
        name: ONNX Runtime's own.
        device: ``"cpu"`` or ``"cuda"``.
        precisions: those that it computes in, each with the provider's options for it.
        activations: of int8.
    """

    name: str
    device: str
    precisions: Mapping[str, Mapping[str, Any]]
    activations: Activations = "int8"

    def options(self, precision: str, network: bytes) -> dict[str, Any]:
        """Options of ONNX Runtime for a precision."""
        return dict(self.precisions[precision])


class TensorRTProvider(Provider):
    """Builds engines, which takes minutes, and keeps them."""

    def options(self, precision: str, network: bytes) -> dict[str, Any]:
        """Engines in a folder of the network's own: ONNX Runtime names them by the graph, whatever the weights."""
        folder = cache_folder("onnxruntime-tensorrt")
        engines = folder / hashlib.sha256(network).hexdigest()[:32]
        return {
            **self.precisions[precision],
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }


CPU = Provider("CPUExecutionProvider", "cpu", {"fp32": {}, "int8": {}}, "uint8")
# TF32 is the provider's default; its int8 would be float32 between Q/DQ nodes
CUDA = Provider("CUDAExecutionProvider", "cuda", {"fp32": {"use_tf32": "0"}, "tf32": {"use_tf32": "1"}, "fp16": {}})
# TensorRT takes TF32 for float32, and the provider has no option against it
TENSORRT = TensorRTProvider(
    "TensorrtExecutionProvider",
    "cuda",
    {"tf32": {}, "fp16": {"trt_fp16_enable": "1"}, "int8": {"trt_int8_enable": "1"}},
)


class OnnxSession(Session):
    """An ONNX Runtime session with its input and output bound, or, in the paper's protocol, copied.

    Raises:
        Unsupported: where ONNX Runtime would run it on another provider than the one that was asked for.
    """

    def __init__(self, network: bytes, example: Tensor, settings: Settings, provider: Provider) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 3  # errors
        # without it, worker threads of the session that ran before keep spinning on this one's cores: interleaved
        # sessions then take up to four times as long as one alone (ResNet-18, 2 cores: 29 instead of 8 ms)
        options.add_session_config_entry("session.force_spinning_stop", "1")
        chosen = (provider.name, provider.options(settings.precision, network))
        self._session = ort.InferenceSession(network, options, providers=[chosen])
        if self._session.get_providers()[0] != provider.name:  # it falls back with no more than a warning
            raise Unsupported(f"onnxruntime could not start its {provider.name}: CUDA, cuDNN or TensorRT is missing")
        self.device = provider.device
        self._dtype = settings.dtype
        self._input = {self._session.get_inputs()[0].name: example.to(settings.dtype).numpy()}
        self._binding: Any = self._bind(ort) if settings.protocol.bound else None
        self._output: np.ndarray

    def _bind(self, ort: Any) -> Any:
        binding = self._session.io_binding()
        for name, value in self._input.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, self.device))
        binding.bind_output(self._session.get_outputs()[0].name, self.device)
        return binding

    def run(self) -> None:
        """One forward pass."""
        if self._binding is None:
            (self._output,) = self._session.run(None, self._input)
        else:
            self._session.run_with_iobinding(self._binding)  # returns when the device is done

    def output(self) -> Tensor:
        """Outputs of the last `run`, on the CPU."""
        return torch.from_numpy(self._output if self._binding is None else self._binding.copy_outputs_to_cpu()[0])

    def infer(self, images: Tensor) -> Tensor:
        """The output for other images, which are copied."""
        (output,) = self._session.run(None, dict.fromkeys(self._input, images.to(self._dtype).numpy()))
        return torch.from_numpy(output)


class OnnxRuntime(Runtime):
    """ONNX Runtime.

    Args:
        name: of the runtime.
        provider: what computes.
    """

    def __init__(self, name: str, provider: Provider) -> None:
        self.name = name
        self.tried = provider.device == "cpu"
        self._provider = provider

    @property
    def target(self) -> str:
        """Providers share ONNX Runtime's own fusions."""
        return "onnxruntime"

    def missing(self) -> str | None:
        """True if it, its provider and the exporter are installed, and the provider's device is there."""
        if absent := not_installed(("onnxruntime", *ONNX_PACKAGES), "runtimes"):
            return absent
        if self._provider.name not in _installed_providers():
            return f"the installed onnxruntime has no {self._provider.name}: {_INSTALL_GPU}"
        if self._provider.device == "cuda" and not torch.cuda.is_available():
            return f"{self.name} needs an NVIDIA GPU"
        return None

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> bytes:
        """The network as ONNX; half precision and int8 are properties of the file."""
        require_precision(self.name, settings, self._provider.precisions)
        return onnx_in(model, example, settings, self._provider.activations)

    def load(self, network: bytes, example: Tensor, settings: Settings) -> Session:
        """A session of ONNX Runtime's own."""
        return OnnxSession(network, example, settings, self._provider)


# both packages install the module onnxruntime: one replaces the other's files
_INSTALL_GPU = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


@functools.cache
def _installed_providers() -> tuple[str, ...]:
    import onnxruntime as ort

    return tuple(ort.get_available_providers())
