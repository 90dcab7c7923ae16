"""TensorRT engines, for the GPU they are built on. Never run by the authors: they had no TensorRT."""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from torch import Tensor, nn

from recalib.deploy.formats.base import Format, Run
from recalib.runtimes.base import Unsupported


class TensorRT(Format):
    """An ``.engine`` file. It is not built here: the ONNX export is what TensorRT's own tool takes."""

    name = "tensorrt"
    suffix = ".engine"
    fixed = "tensorrt"
    free = "tensorrt"

    def require(self) -> NoReturn:
        """Refuse, and say what to do instead.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            "tensorrt: engines have never been built with recalib and are not written; export --to onnx and give the "
            "file to trtexec --onnx=FILE on the machine with the GPU"
        )

    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: bool,
        opset: int | None,
    ) -> None:  # fmt: skip
        """Refuse, as `require` does."""
        self.require()

    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """Refuse, as `require` does."""
        self.require()
