"""int8 by post-training quantisation: scales come from what images make of each feature map.

Weights of a network for x86 use seven of the eight bits. A processor without VNNI (AVX2, early AVX-512) adds two
products of uint8 and int8 in int16, and cuts off what does not fit: 255 * (127 + 127) does not, 255 * (64 + 64) does.
With seven bits a file gives the same numbers on every processor; with eight, and where VNNI is missing, some networks'
outputs are off by half.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recalib.runtimes.base import Settings
from recalib.runtimes.export import once, to_onnx
from recalib.runtimes.samples import Samples, batches_of, noise

Activations = Literal["uint8", "int8"]
# zero points of 0, biases in floating point and float32 weights behind Q/DQ pairs of their own: no int32 to dequantise
FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def calibration_batches(samples: Samples | None, example: Tensor) -> list[Tensor]:
    """Images that scales are taken from, in batches of the example's size; noise without samples."""
    return batches_of((samples or noise((example.shape[2], example.shape[3]))).calibration, len(example))


def onnx_in(model: nn.Module, example: Tensor, settings: Settings, activations: Activations) -> bytes:
    """The network as ONNX whose tensors have the types of the settings' precision.

    Args:
        model: in evaluation mode, float32.
        example: an input, shape (N, 3, H, W), float32.
        settings: precision and, for int8, samples.
        activations: of int8.
    """

    def quantized() -> bytes:
        return to_qdq(to_onnx(model, example), calibration_batches(settings.samples, example), activations)

    if settings.precision == "int8":
        network: bytes = once(model, ("qdq", activations, tuple(example.shape), settings.samples), quantized)
        return network
    if settings.dtype == torch.float32:
        return to_onnx(model, example)
    return to_onnx(copy.deepcopy(model).to(settings.dtype), example.to(settings.dtype))


def to_qdq(network: bytes, batches: Sequence[Tensor], activations: Activations) -> bytes:
    """An ONNX network with Q/DQ nodes: weights int8 per output channel and symmetric, activations per tensor.

    By ONNX Runtime's own quantiser: NNCF's for ONNX comes to the same accuracy, but chooses the kind of activations
    itself, and is another package.

    Args:
        network: in float32, its shape that of the batches.
        batches: to calibrate on.
        activations: ``"uint8"``, with a zero point, which the kernels for x86 want, and weights of seven bits; or
            ``"int8"``, symmetric, the only kind that TensorRT takes, and weights of eight.
    """
    from onnxruntime import quantization

    kind = quantization.QuantType.QUInt8 if activations == "uint8" else quantization.QuantType.QInt8
    with TemporaryDirectory() as folder, _silence():
        plain, quantized = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        _fold_to(plain, network)
        quantization.quantize_static(
            plain, quantized, _Reader(plain, batches), per_channel=True, activation_type=kind,
            reduce_range=activations == "uint8", extra_options={} if activations == "uint8" else FOR_TENSORRT,
        )  # fmt: skip
        return quantized.read_bytes()


def to_openvino_int8(model: Any, batches: Sequence[Tensor]) -> Any:
    """An ``openvino.Model`` in int8, by NNCF, which places the scales where OpenVINO's kernels fuse them."""
    with _silence():
        import nncf

        dataset = nncf.Dataset([batch.numpy() for batch in batches])
        # seven bits in every layer: NNCF's default is the first layer alone
        seven_bits = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        return nncf.quantize(model, dataset, subset_size=len(batches), advanced_parameters=seven_bits)


def _fold_to(path: Path, network: bytes) -> None:
    """Write a network with batch norms folded and constants computed; scales belong around what is left."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


class _Reader:
    """Batches as ``onnxruntime.quantization.CalibrationDataReader`` gives them."""

    def __init__(self, path: Path, batches: Sequence[Tensor]) -> None:
        import onnx

        self._name = onnx.load(path).graph.input[0].name
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch.numpy()}


@contextmanager
def _silence() -> Iterator[None]:
    """Neither the bars of NNCF nor advice on steps that are taken here by other means."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)
