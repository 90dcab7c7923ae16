"""A classifier ready for images, with labels and preprocessing: from a checkpoint, a name, or an exported file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.data.normalization import NORMALIZATIONS
from recalib.data.pictures import centre, open_picture
from recalib.deploy.about import CIFAR_SIDE, CROP, About, label_names
from recalib.deploy.formats import Run, format_of
from recalib.errors import RecalibError
from recalib.integrations.hub import checkpoint_of
from recalib.models import create_model
from recalib.surgery import CheckpointInfo, insert_, inspect_checkpoint, load_checkpoint


@dataclass(frozen=True)
class Classifier:
    """A network and what is needed to use it.

    Attributes:
        network: in evaluation mode; maps images (N, 3, H, W) to logits (N, classes).
        about: labels and preprocessing.
        form: of the file, such as ``"onnx"`` or ``"klomp"``; ``"untrained"`` or ``"pretrained"`` for a model's name.
    """

    network: nn.Module
    about: About
    form: str


class NoClassifier(RecalibError):
    """A network gives something else than logits (N, classes)."""


class ExportedModule(nn.Module):
    """An exported file as a module: whatever batch comes in is split and filled up to what the file takes.

    Args:
        run: the file's network.
        about: its batch and size.
    """

    def __init__(self, run: Run, about: About) -> None:
        super().__init__()
        self.run = run
        self.about = about

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes), on the device of the images (N, 3, H, W); the work is done on the CPU.

        Raises:
            RecalibError: for another H or W than the file holds for.
        """
        pixels = images.detach().float().cpu().contiguous()
        if self.about.dynamic:
            return self.run(pixels)[0].to(images.device)
        if tuple(images.shape[2:]) != self.about.size:
            raise RecalibError(f"images of {_by(images.shape[2:])}: the file holds for {_by(self.about.size)} only")
        parts = [self._padded(part) for part in pixels.split(self.about.batch)]
        return torch.cat(parts).to(images.device)

    def _padded(self, part: Tensor) -> Tensor:
        missing = self.about.batch - len(part)
        return self.run(F.pad(part, (0, 0) * 3 + (0, missing)))[0][: len(part)]


def open_classifier(
    source: str | Path, *, model: str | None = None, attention: str | None = None, size: tuple[int, int] | None = None,
    pretrained: bool = False,
) -> Classifier:  # fmt: skip
    """Open whatever can classify images; nothing is downloaded and nothing in a checkpoint is executed.

    Args:
        source: an exported file (.onnx, .xml, .pt2), a checkpoint of ours or another project's, or a model's name.
        model: the network of a checkpoint that does not tell it.
        attention: to be inserted where the source is a model's name.
        size: H and W of the images, instead of the network's own.
        pretrained: load the published weights of a model's name; these alone are downloaded.

    Raises:
        RecalibError: for what is none of these, or a size that an exported file does not take.
    """
    path = Path(source)
    if path.is_file():
        if attention is not None:
            raise RecalibError(f"attention {attention!r}: {path.name} has the attention it was trained with")
        if not format_of(path):
            return _open_checkpoint(path, model, size)
        if model is not None:
            raise RecalibError(f"model {model!r}: {path.name} holds its network")
        return open_exported_classifier(path, size)
    if path.suffix in (".pth", ".pt", ".th", ".tar", ".safetensors", ".pkl") or format_of(path) or path.is_dir():
        raise RecalibError(f"{path} is no file")
    if pretrained:
        opened = _open_checkpoint(checkpoint_of(str(source)), None, size)
        if attention is None:
            return replace(opened, form="pretrained")
        insert_(opened.network, attention, identity=True)
        return Classifier(opened.network.eval(), replace(opened.about, attention=attention), "pretrained")
    network = create_model(str(source))
    if attention is not None:
        insert_(network, attention)
    about = about_of(network, str(source), attention or "", None, {}, size)
    return Classifier(network.eval(), about, "untrained")


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, most probable first, as pairs of name and probability.

    There are none of an image that cannot be read.
    """

    file: Path
    classes: tuple[tuple[str, float], ...]


def classify(classifier: Classifier, files: Iterable[Path], most: int = 5) -> Iterator[Prediction]:
    """Classify image files one after the other.

    Args:
        classifier: its labels and preprocessing are used.
        files: images.
        most: so many classes an image.

    Yields:
        A prediction for each; without classes where the file cannot be read.
    """
    about = classifier.about
    for file in files:
        picture = open_picture(file)
        if picture is None:
            yield Prediction(file, ())
            continue
        with torch.inference_mode():
            shown = centre(picture, about.size, about.crop, about.interpolation)
            logits = classifier.network(about.normalization(shown[None]))
        found = logits.float().softmax(1)[0].topk(min(most, logits.shape[1]))
        yield Prediction(file, tuple((about.name(int(i)), float(p)) for p, i in zip(*found, strict=True)))


def open_exported_classifier(path: Path, size: tuple[int, int] | None = None) -> Classifier:
    """An exported file, to be run by its own runtime.

    Raises:
        RecalibError: for another suffix, a file that is not readable or not ours, or a size that it does not take.
    """
    form = format_of(path)
    if form is None:
        raise RecalibError(f"{path} is no exported file: .onnx, .xml (OpenVINO) and .pt2 (torch.export) can be run")
    form.require()
    run, metadata = form.read(path)
    about = About.from_metadata(metadata, path.name)
    if size not in (None, about.size) and not about.dynamic:
        raise RecalibError(f"size {_by(size)}: {path.name} holds for {_by(about.size)} only")
    about = replace(about, size=size or about.size)
    return Classifier(ExportedModule(run, about), about, form.name)


def _open_checkpoint(path: Path, model: str | None, size: tuple[int, int] | None) -> Classifier:
    seen = inspect_checkpoint(path)
    if model is None and seen.architecture is None:
        raise RecalibError(f"{path.name} does not tell its network; name it with --model")
    made = create_model(model, num_classes=seen.num_classes) if model else None
    network = load_checkpoint(path, model=made)
    about = about_of(network, model or str(seen.architecture), seen.attention or "", seen, seen.metadata, size)
    return Classifier(network.eval(), about, seen.format)


def about_of(
    network: nn.Module, model: str, attention: str, seen: CheckpointInfo | None, metadata: dict[str, Any],
    size: tuple[int, int] | None,
) -> About:  # fmt: skip
    """Labels and preprocessing of a network, as far as its name and checkpoint tell them.

    Args:
        network: in evaluation mode, if it matters how it is left.
        model: its name.
        attention: what is inserted.
        seen: of its checkpoint.
        metadata: of the same.
        size: H and W of the images; None for those that it was made for.

    Raises:
        NoClassifier: for a network that gives something else than logits.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    side, usual = (32, NORMALIZATIONS["cifar"]) if "cifar" in model else (224, NORMALIZATIONS["imagenet"])
    shown = metadata.get("preprocessing") or {}
    made_for = shown.get("size") or (config["input_size"][-2:] if "input_size" in config else (side, side))
    size = size or tuple(made_for)
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(1, 3, *size))
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        gives = f"maps {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise NoClassifier(f"{model} gives {gives}, where a classifier gives logits (N, classes)")
    outputs = logits.shape[-1]
    form = seen.normalization if seen else None
    about = About(
        model, attention, label_names(metadata.get("classes"), outputs, model), size=size,
        crop=shown.get("crop", 1.0 if max(size) <= CIFAR_SIDE else CROP),
        interpolation=shown.get("interpolation", "bilinear"),
    )  # fmt: skip
    mean, std = form or (config.get("mean", usual.mean), config.get("std", usual.std))
    return replace(about, mean=tuple(mean), std=tuple(std))


def _by(size: Any) -> str:
    return "x".join(map(str, size))
