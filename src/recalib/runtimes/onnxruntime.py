"""ONNX Runtime on a CPU or, where its CUDA provider is installed, a GPU."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recalib.runtimes.base import Runtime, Session, Settings, Unsupported, not_installed
from recalib.runtimes.export import ONNX_PACKAGES, to_onnx


class OnnxSession(Session):
    """An ONNX Runtime session with its input and output bound, or, in the paper's protocol, copied."""

    def __init__(self, network: bytes, example: Tensor, settings: Settings) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 3  # errors
        # without it, worker threads of the session that ran before keep spinning on this one's cores: interleaved
        # sessions then take up to four times as long as one alone (ResNet-18, 2 cores: 29 instead of 8 ms)
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.device = "cuda" if _on_gpu(settings.device) else "cpu"
        provider = "CUDAExecutionProvider" if self.device == "cuda" else "CPUExecutionProvider"
        self._session = ort.InferenceSession(network, options, providers=[provider])
        self._input = {self._session.get_inputs()[0].name: example.to(_dtype(settings)).numpy()}
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
        """What the last `run` gave, on the CPU."""
        return torch.from_numpy(self._output if self._binding is None else self._binding.copy_outputs_to_cpu()[0])


class OnnxRuntime(Runtime):
    """ONNX Runtime."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        """Whether it and the exporter are installed."""
        return not_installed(("onnxruntime", *ONNX_PACKAGES), "runtimes")

    def translate(self, model: nn.Module, example: Tensor, settings: Settings) -> bytes:
        """The network as ONNX; half precision is a property of the file."""
        dtype = _dtype(settings)
        if dtype == torch.float32:
            return to_onnx(model, example)
        return to_onnx(copy.deepcopy(model).to(dtype), example.to(dtype))

    def load(self, network: bytes, example: Tensor, settings: Settings) -> Session:
        """A session of ONNX Runtime's own."""
        return OnnxSession(network, example, settings)


def _on_gpu(device: torch.device) -> bool:
    import onnxruntime as ort

    return device.type == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers()


def _dtype(settings: Settings) -> torch.dtype:
    supported = (torch.float32, torch.float16) if _on_gpu(settings.device) else (torch.float32,)
    if settings.dtype not in supported or settings.tf32:
        raise Unsupported(f"onnxruntime has no {settings.precision} convolutions on this device; use --precision fp32")
    return settings.dtype
