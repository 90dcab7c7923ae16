"""ONNX: written by PyTorch's exporter, run by ONNX Runtime."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recalib.deploy.formats.base import AXES_OF, Format, Run, exporting, unreadable
from recalib.errors import RecalibError, WorkFailed
from recalib.runtimes.export import ONNX_PACKAGES
from recalib.runtimes.quantize import to_qdq

OLDEST, NEWEST = 18, 25  # opsets that the exporter writes


class Onnx(Format):
    """One ``.onnx`` file, metadata in ``metadata_props``."""

    name = "onnx"
    suffix = ".onnx"
    packages = ("onnxruntime", *ONNX_PACKAGES)
    fixed = "onnxruntime"
    free = "openvino"

    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: Collection[str],
        opset: int | None, outputs: Sequence[str] = ("logits",),
    ) -> None:  # fmt: skip
        """One file; the format's own limit of 2 GB applies."""
        import onnx

        proto = to_proto(model, example, dynamic, opset, outputs)
        onnx.helper.set_model_props(proto, dict(metadata))
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString())

    def quantize(self, path: Path, metadata: Mapping[str, str], batches: Sequence[Tensor]) -> None:
        """Q/DQ nodes with uint8 activations, which ONNX Runtime's CPU kernels want."""
        import onnx

        proto = onnx.load_from_string(to_qdq(path.read_bytes(), batches, "uint8"))
        onnx.helper.set_model_props(proto, dict(metadata))
        path.write_bytes(proto.SerializeToString())

    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """A session of ONNX Runtime on the CPU."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own, of no common class
            raise unreadable(path, "ONNX file", error) from None
        name = session.get_inputs()[0].name

        def run(images: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(output) for output in session.run(None, {name: images.numpy()}))

        return run, dict(session.get_modelmeta().custom_metadata_map)


def to_proto(
    model: nn.Module, example: Tensor, dynamic: Collection[str], opset: int | None, outputs: Sequence[str]
) -> Any:
    """The network as an ``onnx.ModelProto``.

    Raises:
        RecalibError: for an opset that the exporter does not write.
        WorkFailed: for a network that it cannot export.
    """
    if opset is not None and not OLDEST <= opset <= NEWEST:
        raise RecalibError(f"opset {opset}: {OLDEST} to {NEWEST} can be written")
    free = {AXES_OF[example.ndim][axis]: axis for axis in dynamic}
    with exporting("ONNX"):
        program = torch.onnx.export(
            model, (example,), dynamo=True, verbose=False, opset_version=opset, input_names=["images"],
            output_names=list(outputs), dynamic_shapes=(free,) if free else None,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if opset is not None and written != opset:
        raise WorkFailed(f"opset {opset} was asked for, and the exporter wrote {written}")
    return proto
