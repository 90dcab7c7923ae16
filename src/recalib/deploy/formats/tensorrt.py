"""TensorRT engines, for the GPU they are built on. Never run by the authors, for want of a GPU."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from recalib.deploy.formats.base import Format, Run, unreadable
from recalib.deploy.formats.onnx import to_proto
from recalib.errors import RecalibError
from recalib.runtimes import engine
from recalib.runtimes.base import Unsupported


class TensorRTFile(Format):
    """An ``.engine`` file, with its metadata in a ``.json`` beside it, since engines hold none."""

    name = "tensorrt"
    suffix = ".engine"
    fixed = "tensorrt"
    free = "tensorrt"

    def require(self) -> None:
        """Do nothing if an engine can be built and run here.

        Raises:
            Unsupported: if not, with what does without.
        """
        if reason := engine.missing():
            raise Unsupported(f"{reason}; or export --to onnx and give the file to trtexec --onnx=FILE where one is")

    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: Collection[str],
        opset: int | None, outputs: Sequence[str] = ("logits",),
    ) -> None:  # fmt: skip
        """In float32, without TF32, for one N, H and W.

        Raises:
            RecalibError: for a dynamic one.
        """
        if len(outputs) > 1:
            raise RecalibError(f"tensorrt: engines are written for one output, the network has {len(outputs)}")
        if dynamic:
            raise RecalibError("tensorrt: engines are written for one batch and size; leave --dynamic out")
        network = to_proto(model, example, dynamic, opset, outputs).SerializeToString()
        path.write_bytes(engine.engine(network, tuple(example.shape), "fp32"))
        path.with_suffix(".json").write_text(json.dumps(dict(metadata)), encoding="utf-8")

    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """On the GPU; images and logits are copied."""
        self.require()
        try:
            network = engine.Engine(path.read_bytes())
            metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecalibError) as error:
            raise unreadable(path, "TensorRT engine", error) from None

        def run(images: Tensor) -> tuple[Tensor, ...]:
            network.input.copy_(images)
            network.run()
            return (network.output.cpu().float(),)

        return run, metadata
