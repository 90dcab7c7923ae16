"""An archive of ``torch.export``: a graph that PyTorch loads without the classes it was made of."""

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from recalib.deploy.formats.base import AXES_OF, Format, Run, exporting, unreadable

METADATA = "recalib.json"  # among the archive's extra files


class TorchExport(Format):
    """One ``.pt2`` file, metadata among its extra files."""

    name = "torch-export"
    suffix = ".pt2"
    fixed = "compile"
    free = "compile"

    def write(
        self, model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str], *, dynamic: Collection[str],
        opset: int | None, outputs: Sequence[str] = ("logits",),
    ) -> None:  # fmt: skip
        """The form that torch.compile and AOTInductor fuse best; the opset means nothing here."""
        free = {AXES_OF[example.ndim][axis]: torch.export.Dim.AUTO for axis in dynamic}
        with exporting("torch.export"):
            program = torch.export.export(model, (example,), dynamic_shapes=(free,) if free else None)
            torch.export.save(program, path, extra_files={METADATA: json.dumps(dict(metadata))})

    def read(self, path: Path) -> tuple[Run, dict[str, str]]:
        """The graph in eager PyTorch. Only archives that you trust: weights are read without pickles, the rest is not.

        Raises:
            RecalibError: for a file that is no archive.
        """
        if not is_zipfile(path):  # PyTorch would log a traceback beside its error
            raise unreadable(path, "archive of torch.export", ValueError("not a ZIP archive, or cut short"))
        extra = {METADATA: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = torch.export.load(path, extra_files=extra).module()
            metadata = json.loads(extra[METADATA] or "{}")
        except Exception as error:  # zip, JSON and PyTorch errors
            raise unreadable(path, "archive of torch.export", error) from None

        @torch.no_grad()
        def run(images: Tensor) -> tuple[Tensor, ...]:
            outputs: Tensor | tuple[Tensor, ...] = network(images)
            return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)

        return run, metadata
