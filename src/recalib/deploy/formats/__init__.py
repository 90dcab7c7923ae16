"""Files of other runtimes, one format a file: each written, and read again to be run and checked."""

from pathlib import Path

from recalib.deploy.formats.base import Format, Run
from recalib.deploy.formats.onnx import Onnx
from recalib.deploy.formats.openvino import OpenVINOFile
from recalib.deploy.formats.tensorrt import TensorRTFile
from recalib.deploy.formats.torch_export import TorchExport
from recalib.errors import unknown

FORMATS: dict[str, Format] = {form.name: form for form in (Onnx(), OpenVINOFile(), TensorRTFile(), TorchExport())}


def find_format(name: str) -> Format:
    """The format of this name.

    Raises:
        RecalibError: for another name.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]


def format_of(path: Path) -> Format | None:
    """The format of a file by its suffix; None for a checkpoint or anything else."""
    return next((form for form in FORMATS.values() if form.suffix == path.suffix.lower()), None)


__all__ = ["FORMATS", "Format", "Run", "find_format", "format_of"]
