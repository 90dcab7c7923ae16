"""int8 by post-training quantisation: scales come from what images make of each feature map."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

NOISE_IMAGES = 16
Activations = Literal["uint8", "int8"]


def calibration_batches(images: Tensor | None, example: Tensor) -> list[Tensor]:
    """What scales are taken from, in batches of the example's size, the last one filled up from the first images.

    Args:
        images: float32, shape (M, 3, H, W); None for noise, which times a network and tells nothing of its accuracy.
        example: shape (N, 3, H, W).
    """
    if images is None:
        images = torch.randn(NOISE_IMAGES, *example.shape[1:], generator=torch.Generator().manual_seed(2))
    N = len(example)
    padded = torch.stack(list(islice(cycle(images), -(-len(images) // N) * N)))
    return list(padded.split(N))


def to_qdq(network: bytes, batches: list[Tensor], activations: Activations) -> bytes:
    """An ONNX network with Q/DQ nodes: weights int8 per output channel and symmetric, activations per tensor.

    By ONNX Runtime's own quantiser: NNCF's for ONNX comes to the same accuracy, but ONNX Runtime's is quicker to run in
    its CPU kernels, and writes what TensorRT takes as well.

    Args:
        network: in float32, its shape that of the batches.
        batches: to calibrate on.
        activations: ``"uint8"``, with a zero point, which the kernels for x86 want; or ``"int8"``, symmetric, the
            only kind that TensorRT takes.
    """
    from onnxruntime import quantization

    kind = quantization.QuantType.QUInt8 if activations == "uint8" else quantization.QuantType.QInt8
    with TemporaryDirectory() as folder, _silence():
        plain, quantized = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        _fold_to(plain, network)
        quantization.quantize_static(
            plain, quantized, _Reader(plain, batches), per_channel=True, activation_type=kind,
            extra_options={"ActivationSymmetric": activations == "int8"},
        )  # fmt: skip
        return quantized.read_bytes()


def to_openvino_int8(network: bytes, batches: list[Tensor]) -> Any:
    """The same as an ``openvino.Model``, by NNCF, which places the scales where OpenVINO's kernels fuse them."""
    with _silence():
        import nncf
        import openvino

        model = openvino.Core().read_model(network)
        dataset = nncf.Dataset([batch.numpy() for batch in batches])
        return nncf.quantize(model, dataset, subset_size=len(batches))


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

    def __init__(self, path: Path, batches: list[Tensor]) -> None:
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
