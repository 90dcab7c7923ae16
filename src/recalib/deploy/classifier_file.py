"""A network as a file for another runtime: deployed, written, and checked by running the file."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from recalib.data.pictures import read_batch
from recalib.deploy.about import About
from recalib.deploy.classifier import ExportedModule
from recalib.deploy.deploy import deploy
from recalib.deploy.formats import Format, find_format
from recalib.deploy.formats.base import AXES
from recalib.errors import RecalibError, WorkFailed
from recalib.runtimes.samples import batches_of, noise

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Export:
    """The file that was written, and its distance to PyTorch.

    Attributes:
        path: the file.
        form: its format.
        target: the form of `recalib.deploy` that it holds.
        precision: ``"fp32"`` or ``"int8"``.
        difference: the largest of any image: max |file - PyTorch| over its logits, relative to max |PyTorch|.
        top1_agreement: percent of the images whose most probable class is PyTorch's.
        shapes: of the batches it was run on.
        images: ``"real"`` or ``"noise"``.
        about: what its metadata says.
    """

    path: Path
    form: str
    target: str
    precision: str
    difference: float
    top1_agreement: float
    shapes: tuple[tuple[int, ...], ...]
    images: str
    about: About


def export_classifier(
    model: nn.Module,
    path: Path,
    about: About,
    *,
    to: str = "onnx",
    opset: int | None = None,
    files: Sequence[Path] = (),
    precision: str = "fp32",
    tolerance: float = TOLERANCE,
) -> Export:
    """Deploy a network, write it to a file, and run the file against the network in PyTorch.

    The file is there when it has passed, and only then.

    Args:
        model: a classifier; it is not changed.
        path: of the file.
        about: labels and preprocessing for its metadata; its batch and size are what the file is made for, any other
            ones will do as well if it is ``dynamic``.
        to: ``"onnx"``, ``"openvino"``, ``"torch-export"``.
        opset: of ONNX.
        files: images to compare on; noise if there are none. Every second is what int8 is calibrated on instead.
        precision: ``"fp32"``; or ``"int8"``, by post-training quantisation, where the format has it.
        tolerance: the largest relative difference that passes, in float32.

    Raises:
        RecalibError: for a format or option that does not exist, or an image that cannot be read.
        WorkFailed: for a network that cannot be exported, or a file that differs by more than the tolerance.
    """
    form = find_format(to)
    form.require()
    reference = copy.deepcopy(model).float().cpu().eval()
    shape = (about.batch, 3, *about.size)
    target = form.free if about.dynamic else form.fixed
    deployed = deploy(reference, shape, target=target)
    example = torch.randn(_example_shape(about), generator=torch.Generator().manual_seed(0))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            form.write(deployed, example, fresh, about.to_metadata(), dynamic=_free(about), opset=opset)
            if precision == "int8":
                form.quantize(fresh, about.to_metadata(), _calibration(about, len(example), files))
            judged = files[::2] if precision == "int8" else files
            shapes, difference, agree = _check(form, fresh, reference, about, judged)
            if precision == "fp32" and not difference <= tolerance:
                raise WorkFailed(f"{path.name} differs from PyTorch by {difference:.1e}, the tolerance is {tolerance}")
            for file in sorted(Path(folder).iterdir()):  # OpenVINO's .bin before the .xml that reads it
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise WorkFailed(f"{path} cannot be written: {error.strerror}") from None
    images = "real" if files else "noise"
    return Export(path, form.name, target, precision, difference, agree, shapes, images, about)


def _example_shape(about: About) -> tuple[int, ...]:
    """A batch of 1 would be taken for a constant where N is to be free."""
    return (max(about.batch, 2) if about.dynamic else about.batch, 3, *about.size)


def _free(about: About) -> tuple[str, ...]:
    return tuple(AXES) if about.dynamic else ()


def _check(
    form: Format, path: Path, reference: nn.Module, about: About, files: Sequence[Path]
) -> tuple[tuple[tuple[int, ...], ...], float, float]:
    """Shapes that were run, the largest difference, and the percentage of images with the same most probable class."""
    run, metadata = form.read(path)
    exported = ExportedModule(run, About.from_metadata(metadata, path.name))
    shapes, worst, same = [], 0.0, []
    for images in _batches(about, files):
        with torch.inference_mode():
            expected = reference(images)
        if not isinstance(expected, Tensor):
            raise WorkFailed(
                f"the network gives a {type(expected).__name__}; networks that give one tensor can be exported"
            )
        found = exported(images)
        worst = max(worst, relative_difference(found, expected))
        same.append(found.argmax(1) == expected.argmax(1))
        shapes.append(tuple(images.shape))
    return tuple(shapes), worst, 100 * float(torch.cat(same).double().mean())


def _calibration(about: About, N: int, files: Sequence[Path]) -> list[Tensor]:
    """Batches of N of every second image; noise without images.

    Raises:
        RecalibError: for a single image.
    """
    if not files:
        return batches_of(noise(about.size).calibration, N)
    if len(files) < 2:
        raise RecalibError("int8 is calibrated on one half of the images and compared on the other: give two or more")
    return batches_of(_images(about, files[1::2], len(files[1::2])), N)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest over images (rows) of max |found - expected| / max |expected|; infinite where one is not finite."""
    if found.shape != expected.shape or not bool(found.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    error = (found.double() - expected.double()).abs().flatten(1).amax(1)
    return float((error / expected.double().abs().flatten(1).amax(1)).max())


def _batches(about: About, files: Sequence[Path]) -> Iterator[Tensor]:
    """All images, or one more noise image than a batch; where N, H and W are free also one image of another size."""
    count = len(files) or about.batch + 1
    yield _images(about, files, count)
    if about.dynamic:
        H, W = about.size
        yield _images(replace(about, size=(H + H // 2, W)), files, 1)


def _images(about: About, files: Sequence[Path], count: int) -> Tensor:
    if files:
        return read_batch(files[:count], about.size, about.crop, about.normalization, about.interpolation)
    return torch.randn((count, 3, *about.size), generator=torch.Generator().manual_seed(1))
