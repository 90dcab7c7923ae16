"""Quality of answers: the distance of a reduced precision to float32, and the accuracy of what is timed."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from recalib.data.cifar import find_cifar, read_cifar
from recalib.data.imagenet import Folder, read_folder
from recalib.data.normalization import Normalization
from recalib.data.pictures import image_files, read_batch
from recalib.data.shards import Shards
from recalib.deploy.about import About
from recalib.deploy.classifier import about_of
from recalib.deploy.classifier_file import relative_difference
from recalib.errors import RecalibError
from recalib.measure.cells import Cell
from recalib.runtimes import Session, Settings
from recalib.runtimes.samples import NOISE, Samples, batches_of, noise
from recalib.surgery import inspect_checkpoint

MOST_IMAGES = 128  # of 224 x 224 pixels, to calibrate and again to compare: seconds for ResNet-50 on two cores
FEWEST_IMAGES = 8  # of large ones
CHUNK = 32  # images that are read at once


def with_samples(
    settings: Settings, network: nn.Module, model: str, size: tuple[int, int], images: Path | None, weights: Path | None
) -> Settings:
    """The settings with sample images, where the precision is a reduced one.

    Args:
        settings: of a group of cells.
        network: the plain one, which tells its preprocessing.
        model: its name.
        size: H and W.
        images: a folder of images, ImageNet's, or CIFAR's; None for noise.
        weights: the network's checkpoint; None for random weights.

    Raises:
        RecalibError: for a folder without images or with one that cannot be read.
    """
    if settings.precision == "fp32":
        return settings
    about = _about(network, model, size, weights)
    if images is None:
        return replace(settings, samples=noise(size, weights is not None))
    classes = _outputs(network, size) if weights else None
    return replace(settings, samples=read_samples(images, about.size, about.crop, about.normalization, classes))


def _about(network: nn.Module, model: str, size: tuple[int, int], weights: Path | None) -> About:
    seen = inspect_checkpoint(weights) if weights else None
    return about_of(network, model, "", seen, seen.metadata if seen else {}, size)


@functools.lru_cache(maxsize=2)
def read_samples(folder: Path, size: tuple[int, int], crop: float, form: Normalization, classes: int | None) -> Samples:
    """Sample images: every second to calibrate on and the others to judge; CIFAR's training and test images.

    Args:
        folder: of images, of ImageNet's layout, or of CIFAR.
        size: H and W.
        crop: share of an image's narrower side that is shown.
        form: of the pixels.
        classes: outputs of a trained network: the labels of a data set with as many classes mean something to it.

    Raises:
        RecalibError: for a folder with less than two images or with one that cannot be read.
    """
    count = max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_IMAGES * 224**2 // (size[0] * size[1])))
    if name := find_cifar(folder):
        train, test = (read_cifar(folder, name, train=half) for half in (True, False))
        labels = test.labels[:count] if classes == len(test.classes) else None
        pixels = [TF.resize(half.pixels[:count], list(size), antialias=True) for half in (train, test)]
        return Samples(form(pixels[0]), form(pixels[1]), f"{name}, test images", labels, classes is not None)
    found, source = _listed(folder, 2 * count)
    calibration, judged = (read_batch(half, size, crop, form) for half in (found.files[1::2], found.files[::2]))
    labels = torch.tensor(found.labels[::2]) if classes == len(found.classes) else None
    return Samples(calibration, judged, source, labels, classes is not None)


def calibration_images(named: Path | None, data: Path | None) -> Path | None:
    """Images to calibrate int8 on: those named for it, or training images of the labelled data; None for noise.

    Args:
        named: a folder.
        data: labelled images on which the outcome is evaluated.

    Raises:
        RecalibError: where these are the same images.
    """
    if data is None or find_cifar(data):  # CIFAR's training images calibrate
        return named or data
    if named is not None and named.resolve() == data.resolve():
        raise RecalibError(f"calibration {str(named)!r}: int8 must not see the images it is evaluated on; leave it out")
    train = data / "train"
    return named or (train if train.is_dir() else None)


def check_images(folder: Path | None) -> None:
    """Refuse a folder that `read_samples` would.

    Raises:
        RecalibError: saying why.
    """
    if folder is not None and not folder.is_dir():
        raise RecalibError(f"calibration {str(folder)!r}: no such folder")
    if folder is not None and find_cifar(folder) is None:
        _listed(folder, 2)


def _listed(folder: Path, most: int) -> tuple[Folder | Shards, str]:
    found, source = _found(folder, most)
    if len(found.files) < 2:
        raise RecalibError(f"{folder} holds one image: one half is calibrated on and the other judged, so give two")
    return found, source


def _found(folder: Path, most: int) -> tuple[Folder | Shards, str]:
    for half, source in (("val", "validation images"), ("train", "training images")):
        if (folder / half).is_dir():
            return read_folder(folder, train=half == "train").first(most), source
    files = image_files(folder)
    return Folder(tuple(files[:: -(-len(files) // most)]), (), ()), "images of a folder"


def agreement(session: Session, samples: Samples, expected: Tensor, N: int) -> dict[str, Any]:
    """Distance of a session's outputs to float32's.

    Args:
        session: one that takes N images.
        samples: of its H and W.
        expected: what the network gives in float32, shape (K, classes).
        N: images in one forward pass.

    Returns:
        In JSON's types: ``images``, ``source`` and ``weights`` (``"checkpoint"`` or ``"random"``);
        ``relative_difference``, the largest of any image, of the largest of its outputs; ``top1_agreement`` in
        percent; with labels also ``top1`` and ``top1_fp32`` in percent.
    """
    found = torch.cat([session.infer(batch).float() for batch in batches_of(samples.images, N)])[: len(expected)]
    best, expected_best = found.argmax(1), expected.argmax(1)
    result = {
        "images": len(expected),
        "source": samples.source,
        "weights": "checkpoint" if samples.trained else "random",
        "relative_difference": relative_difference(found, expected),
        "top1_agreement": _percent(best, expected_best),
    }
    if samples.labels is not None:
        result |= {"top1": _percent(best, samples.labels), "top1_fp32": _percent(expected_best, samples.labels)}
    return result


class Judge:
    """Labelled images on which what is timed is evaluated.

    Args:
        network: the plain one, which tells its preprocessing and how many classes it has.
        model: its name.
        size: H and W of the images.
        weights: the checkpoint, which may tell more of it.
        data: ImageNet's layout or CIFAR's, of which the validation or test images are taken.
        count: of images at most.

    Raises:
        RecalibError: for data whose classes are not the network's.
    """

    def __init__(
        self, network: nn.Module, model: str, size: tuple[int, int], weights: Path | None, data: Path, count: int
    ) -> None:
        about, outputs = _about(network, model, size, weights), _outputs(network, size)
        self._read: Callable[[int, int], Tensor]
        if name := find_cifar(data):
            test = read_cifar(data, name, train=False).first(count)
            self.labels, self.source, classes = test.labels, f"{name}, test images", len(test.classes)
            self._read = lambda i, j: about.normalization(TF.resize(test.pixels[i:j], list(size), antialias=True))
        else:
            found = read_folder(data, train=False).first(count)
            self.labels, self.source, classes = torch.tensor(found.labels), "validation images", len(found.classes)
            self._read = lambda i, j: read_batch(found.files[i:j], size, about.crop, about.normalization)
        if classes != outputs:
            raise RecalibError(f"data {str(data)!r} has {classes} classes, and {model} {outputs} outputs")

    def right(self, classify: Callable[[Tensor], Tensor]) -> Tensor:
        """For each image whether its label is the most probable class; `classify` gives logits of up to 32 images."""
        starts = range(0, len(self.labels), CHUNK)
        with torch.inference_mode():
            found = [classify(self._read(i, i + CHUNK)).float().argmax(1) for i in starts]
        return torch.cat(found) == self.labels

    def accuracy(self, session: Session, N: int, in_float32: Tensor) -> dict[str, Any]:
        """The accuracy of a session that takes N images, beside that of the same network in PyTorch and float32.

        Args:
            session: ready to run.
            N: images in one forward pass.
            in_float32: what `right` gave for the network itself.

        Returns:
            In JSON's types: ``images`` and their ``source``; ``top1`` and its 95 % interval (Wilson's), and
            ``top1_fp32``, in percent; ``only_here`` and ``only_fp32``, the images that only one of them got right, and
            ``p``, McNemar's exact test that they are equally good.
        """
        from scipy.stats import binomtest

        def classify(images: Tensor) -> Tensor:
            return torch.cat([session.infer(part) for part in batches_of(images, N)])[: len(images)]

        here, count = self.right(classify), len(self.labels)
        interval = binomtest(int(here.sum()), count).proportion_ci(method="wilson")
        only_here, only_fp32 = int((here & ~in_float32).sum()), int((in_float32 & ~here).sum())
        differing = only_here + only_fp32
        return {
            "images": count,
            "source": self.source,
            "top1": 100 * int(here.sum()) / count,
            "top1_interval": [100 * float(interval.low), 100 * float(interval.high)],
            "top1_fp32": 100 * int(in_float32.sum()) / count,
            "only_here": only_here,
            "only_fp32": only_fp32,
            "p": float(binomtest(only_here, differing).pvalue) if differing else 1.0,
        }


def notes(cells: Sequence[Cell]) -> list[str]:
    """Findings, in a line a runtime and precision, with what they were found on."""
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        if cell.agreement is not None:
            one = cell.agreement
            groups.setdefault((cell.precision, cell.runtime, one["source"], one["weights"]), []).append(one)
    return [_note(*key, found=found) for key, found in groups.items()]


def _note(precision: str, runtime: str, source: str, weights: str, found: list[dict[str, Any]]) -> str:
    low, high = (pick(one["top1_agreement"] for one in found) for pick in (min, max))
    worst = max(one["relative_difference"] for one in found)
    doubt = ", which tells nothing of accuracy" if source == NOISE or weights == "random" else ""
    return (
        f"{precision} in {runtime}: top-1 as in float32 on {low:.1f} to {high:.1f} % of images, largest relative "
        f"difference {worst:.1e} ({source}, {weights} weights{doubt})"
    )


def _percent(found: Tensor, expected: Tensor) -> float:
    return 100 * float((found == expected).double().mean())


def _outputs(network: nn.Module, size: tuple[int, int]) -> int:
    with torch.inference_mode():
        return int(network(torch.zeros(1, 3, *size)).shape[-1])
