"""The interface of a file format."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

import torch
from torch import Tensor, nn

from recalib.deploy.sites import Target
from recalib.errors import RecalibError, WorkFailed, not_installed
from recalib.runtimes.base import Unsupported

Run = Callable[[Tensor], tuple[Tensor, ...]]
"""Images (N, C, H, W), float32, on the CPU, to the outputs; of a classifier the logits (N, classes)."""

AXES = {"batch": 0, "height": 2, "width": 3}
"""Axes of images (N, C, H, W) that may be free, by name."""
AXES_OF = {3: {"batch": 0, "length": 2}, 4: AXES, 5: {"batch": 0, "depth": 2, "height": 3, "width": 4}}
"""The same by number of dimensions: of signals (N, C, L), images and volumes (N, C, D, H, W)."""


class Format(ABC):
    """A kind of file that holds a network, weights included, for another runtime.

    Attributes:
        name: as `recalib export --to` takes it.
        suffix: of its files.
        packages: what must be installed to write and to run it.
        fixed: the form of `recalib.deploy` for one N, H and W.
        free: the form for any N, H and W.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[Target]
    free: ClassVar[Target]

    def require(self) -> None:
        """Do nothing if the format can be written and run here.

        Raises:
            Unsupported: with the line that mends it.
        """
        if reason := not_installed(self.packages, "runtimes"):
            raise Unsupported(reason)

    @abstractmethod
    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: Collection[str],
        opset: int | None, outputs: Sequence[str] = ("logits",),
    ) -> None:  # fmt: skip
        """Write a deployed network.

        Args:
            model: in evaluation mode, float32, on the CPU.
            example: its input, shape (N, C, *spatial).
            path: of the file; others of the same stem may be written beside it.
            metadata: kept in the file.
            dynamic: names of the `AXES_OF` the example that are free.
            opset: of ONNX; None for the exporter's own choice.
            outputs: names of the tensors that the network gives.
        """

    def quantize(self, path: Path, metadata: Mapping[str, str], batches: Sequence[Tensor]) -> None:
        """Turn a written file into int8, in its place.

        Args:
            path: of the file.
            metadata: as it was written.
            batches: images of the example's shape to calibrate on.

        Raises:
            Unsupported: where the format has no int8 here.
        """
        raise Unsupported(f"{self.name}: int8 is written to onnx and openvino only")

    @abstractmethod
    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """The network, ready to run on the CPU in float32, and its metadata.

        Raises:
            RecalibError: for a file that is none.
        """


@contextmanager
def exporting(what: str) -> Iterator[None]:
    """A call of an exporter of PyTorch's, which prints and raises much.

    Args:
        what: is exported to, for the error.

    Raises:
        WorkFailed: in one line, the reason at the bottom.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")  # about the exporter's own internals
            yield
    except Exception as error:  # torch.onnx's and torch.export's, of no common class
        bottom: BaseException = error
        while bottom.__cause__ is not None:
            bottom = bottom.__cause__
        kind = type(bottom).__name__
        text = shorten((str(bottom).strip() or kind).splitlines()[0], 200, placeholder=" ...")
        if "DataDependent" in kind:
            text = (
                "what it does depends on what the images show, as in detectors that select boxes; "
                f"export a part before, such as model.backbone ({text})"
            )
        raise WorkFailed(f"cannot be exported to {what}: {text}") from error


def unreadable(path: Path, kind: str, error: Exception) -> RecalibError:
    """The error for a file that is not of its kind."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    reason = next((line for line in lines if not line.startswith("Exception from")), lines[0])  # OpenVINO's own places
    return RecalibError(f"{path} is no {kind} that can be read: {reason}")
