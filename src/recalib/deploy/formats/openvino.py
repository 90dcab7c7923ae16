"""OpenVINO's intermediate representation, made from ONNX."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

from recalib.deploy.formats.base import Format, Run, unreadable
from recalib.deploy.formats.onnx import to_proto
from recalib.errors import not_installed
from recalib.runtimes.base import Unsupported
from recalib.runtimes.export import ONNX_PACKAGES
from recalib.runtimes.quantize import to_openvino_int8


class OpenVINOFile(Format):
    """An ``.xml`` file with its weights in a ``.bin`` beside it, metadata in ``rt_info``."""

    name = "openvino"
    suffix = ".xml"
    packages = ("openvino", *ONNX_PACKAGES)
    fixed = "openvino"
    free = "openvino"

    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: Collection[str],
        opset: int | None, outputs: Sequence[str] = ("logits",),
    ) -> None:  # fmt: skip
        """Weights stay float32; OpenVINO chooses its precision when it compiles."""
        import openvino

        network = openvino.Core().read_model(to_proto(model, example, dynamic, opset, outputs).SerializeToString())
        _save(network, path, metadata)

    def quantize(self, path: Path, metadata: Mapping[str, str], batches: Sequence[Tensor]) -> None:
        """By NNCF.

        Raises:
            Unsupported: without NNCF.
        """
        import openvino

        if absent := not_installed(("nncf",), "runtimes"):
            raise Unsupported(f"int8: {absent}")
        network = openvino.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())  # not mapped
        _save(to_openvino_int8(network, batches), path, metadata)

    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """Compiled for the CPU in float32, on CPUs with bfloat16 too."""
        import openvino

        core = openvino.Core()
        try:
            ElementTree.parse(path)  # what is no XML OpenVINO hands to TensorFlow's reader, which writes to stderr
            network = core.read_model(path)
            compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except Exception as error:  # OpenVINO raises RuntimeError and others
            raise unreadable(path, "OpenVINO model", error) from None
        request = compiled.create_infer_request()

        def run(images: Tensor) -> tuple[Tensor, ...]:
            found = request.infer([images.numpy()])
            return tuple(torch.from_numpy(found[output].copy()) for output in compiled.outputs)

        known = network.get_rt_info("recalib").value if network.has_rt_info("recalib") else {}
        return run, {f"recalib.{key}": str(value) for key, value in known.items()}


def _save(network: Any, path: Path, metadata: Mapping[str, str]) -> None:
    import openvino

    for key, value in metadata.items():
        network.set_rt_info(value, key.split("."))
    openvino.save_model(network, path, compress_to_fp16=False)
