"""Detectors in files: written with what it takes to build them again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from recalib.detection.detectors import build_detector, detector_spec, norms_of
from recalib.errors import RecalibError
from recalib.runs.folder import weights_of
from recalib.surgery import load_checkpoint, save_checkpoint
from recalib.surgery.checkpoints.checkpoint import understand
from recalib.surgery.checkpoints.files import read


def write_detector(detector: nn.Module, path: Path, name: str, classes: Sequence[str], ibn: str, **about: Any) -> None:
    """Write a detector so that `load_detector` makes the same of it, atomically.

    Args:
        detector: from `build_detector`.
        path: the file, ``*.safetensors``.
        name: it was built by.
        classes: names, the background first.
        ibn: scheme it was built with.
        **about: plain data to keep with it.
    """
    images: Any = detector.transform
    settings = {"image_mean": list(images.image_mean), "image_std": list(images.image_std)}
    if detector_spec(name).side is None:
        settings |= {"min_size": list(images.min_size), "max_size": images.max_size}
    stored: dict[str, Any] = {"name": name, "ibn": ibn, "norms": norms_of(detector), "settings": settings}
    stored["stride_in_1x1"] = _strides_in_1x1(detector)
    save_checkpoint(detector, path, architecture=name, detector=stored, classes=list(classes), **about)


def load_detector(run_or_checkpoint: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """The detector that a run ended with, or one in a file, in evaluation mode; and its classes, the background first.

    Raises:
        RecalibError: where there is none.
    """
    path = weights_of(run_or_checkpoint)
    about = understand(read(path)).metadata
    try:
        stored, classes = about["detector"], tuple(about["classes"])
        detector = build_detector(
            stored["name"], num_classes=len(classes), norms=stored["norms"], ibn=stored["ibn"], **stored["settings"]
        )
    except (KeyError, TypeError) as error:
        raise RecalibError(f"{path} holds no detector that recalib detect train wrote ({error})") from None
    if stored["stride_in_1x1"]:
        _stride_in_1x1(detector)
    return load_checkpoint(path, model=detector).eval(), classes


def _bottlenecks(detector: nn.Module) -> list[Any]:
    return [m for m in detector.get_submodule("backbone.body").modules() if hasattr(m, "conv3") and hasattr(m, "conv2")]


def _strides_in_1x1(detector: nn.Module) -> bool:
    return any(block.conv1.stride != (1, 1) for block in _bottlenecks(detector))


def _stride_in_1x1(detector: nn.Module) -> None:
    for block in _bottlenecks(detector):
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
