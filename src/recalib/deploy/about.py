"""Needs of a classifier beside its weights: labels and preprocessing, kept in the metadata of exported files."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from recalib.data.imagenet import CROP
from recalib.data.normalization import NORMALIZATIONS, Normalization, Three
from recalib.errors import RecalibError

CIFAR_SIDE = 32  # images up to this side are shown whole
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class About:
    """Preprocessing of images, and names of the outputs.

    Attributes:
        model: name of the network.
        attention: names of its mechanisms, "" for none.
        labels: name of each output; empty where nobody tells them.
        mean: of R, G and B on a scale from 0 to 1, subtracted from the image.
        std: the same scale, divided by.
        size: H and W of the input in pixels.
        crop: share of the image's narrower side that is shown.
        interpolation: bilinear or bicubic, of the scaling.
        batch: images in one forward pass.
        dynamic: whether any number of images and any H and W will do; `batch` and `size` are then what it was made for.
    """

    model: str
    attention: str = ""
    labels: tuple[str, ...] = ()
    mean: Three = NORMALIZATIONS["imagenet"].mean
    std: Three = NORMALIZATIONS["imagenet"].std
    size: tuple[int, int] = (224, 224)
    crop: float = CROP
    interpolation: str = "bilinear"
    batch: int = 1
    dynamic: bool = True

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation, to be applied to pixels."""
        return Normalization(self.mean, self.std)

    def name(self, label: int) -> str:
        """Name of an output, its number where nobody tells names."""
        return self.labels[label] if label < len(self.labels) else f"class {label}"

    def to_metadata(self) -> dict[str, str]:
        """Every attribute as JSON, under ``recalib.NAME``."""
        return {f"recalib.{name}": json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> "About":
        """The description that `to_metadata` wrote.

        Args:
            metadata: of an exported file; other entries are left alone.
            source: name of the file, for the error.

        Raises:
            RecalibError: where it is not there or not readable.
        """
        try:
            told = {"recalib.interpolation": '"bilinear"', **metadata}  # which older files do not tell
            values = {field.name: _plain(json.loads(told[f"recalib.{field.name}"])) for field in fields(cls)}
            return cls(**values)
        except (KeyError, ValueError, TypeError) as error:
            raise RecalibError(
                f"{source} does not tell its labels and preprocessing ({error}); write it with recalib export"
            ) from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def label_names(classes: list[str] | None, outputs: int | None, model: str = "") -> tuple[str, ...]:
    """Names of a network's outputs.

    Args:
        classes: those of its checkpoint, if it tells them; ImageNet's folders (n01440764, ...) get their names.
        outputs: their number; 1000 that nobody names are ImageNet's.
        model: name of the network; 10 outputs of one for CIFAR that nobody names are CIFAR-10's.
    """
    if classes is not None and len(classes) == outputs and not _are_synsets(classes):
        return tuple(classes)
    if outputs == 1000 and classes is None:
        return imagenet_names()
    if outputs == len(CIFAR10) and classes is None and "cifar" in model:
        return CIFAR10
    return tuple(_synset_name(name) for name in classes) if classes and len(classes) == outputs else ()


def imagenet_names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet in the order of their synsets, as torchvision names them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _are_synsets(classes: list[str]) -> bool:
    return all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in classes)


def _synset_name(synset: str) -> str:
    from timm.data import ImageNetInfo

    name = ImageNetInfo().label_name_to_description(synset, detailed=False)
    return str(name).split(",")[0]
