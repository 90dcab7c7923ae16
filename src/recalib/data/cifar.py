"""CIFAR-10 and CIFAR-100 from their official files, checked before anything is trained on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recalib.data.order import held_out
from recalib.data.pickles import read_pickle
from recalib.errors import RecalibError

CifarName = Literal["cifar10", "cifar100"]
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Images:
    """A data set small enough for memory.

    Attributes:
        pixels: uint8, shape (N, 3, H, W).
        labels: int64, shape (N,).
        classes: name of each class, in label order.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def first(self, count: int | None) -> "Images":
        """The first ``count`` images; all of them for None."""
        return Images(self.pixels[:count], self.labels[:count], self.classes)

    def split(self, share: float) -> tuple["Images", "Images"]:
        """The rest after a share of the images is set aside, and that share."""
        aside = torch.from_numpy(held_out(len(self.labels), share))
        kept, held = (Images(self.pixels[some], self.labels[some], self.classes) for some in (~aside, aside))
        return kept, held


@dataclass(frozen=True)
class Layout:
    """Layout of one of the official archives on disk."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    classes: int
    parse: Callable[[Path, str], tuple[np.ndarray, np.ndarray]]
    key: str


def read_cifar(root: Path, name: CifarName, train: bool) -> Images:
    """Read one of the two halves of CIFAR-10 or CIFAR-100.

    Args:
        root: folder that holds ``cifar-10-batches-bin``, ``cifar-10-batches-py``, ``cifar-100-binary`` or
            ``cifar-100-python``, or is one of them.
        name: ``"cifar10"`` or ``"cifar100"``.
        train: the 50,000 training images, or the 10,000 test images.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    layout, folder = _find(root, name)
    files = [folder / file for file in (layout.train if train else layout.test)]
    expected = (50_000 if train else 10_000) // len(files)
    parts = [_checked(layout, file, expected) for file in files]
    pixels, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return Images(pixels.reshape(-1, 3, 32, 32), labels.long(), _classes(layout, folder))


def find_cifar(root: Path) -> CifarName | None:
    """``"cifar10"`` or ``"cifar100"``, whichever lies under a folder, or None."""
    for name in LAYOUTS:
        for layout in LAYOUTS[name]:
            if _folder(layout, root) is not None:
                return name
    return None


def _find(root: Path, name: CifarName) -> tuple[Layout, Path]:
    for layout in LAYOUTS[name]:
        folder = _folder(layout, root)
        if folder is not None:
            return layout, folder
    wanted = " or ".join(layout.folder for layout in LAYOUTS[name])
    raise RecalibError(f"{root} holds no {name}: there should be a folder {wanted}")


def _folder(layout: Layout, root: Path) -> Path | None:
    if root.name == layout.folder and root.is_dir():
        return root
    return root / layout.folder if (root / layout.folder).is_dir() else None


def _checked(layout: Layout, file: Path, expected: int) -> tuple[np.ndarray, np.ndarray]:
    if not file.is_file():
        raise RecalibError(f"{file} is missing")
    pixels, labels = layout.parse(file, layout.key)
    if not len(pixels) == len(labels) == expected:
        raise RecalibError(f"{file} is truncated: {len(pixels)} images, {len(labels)} labels instead of {expected}")
    wrong = np.flatnonzero((labels < 0) | (labels >= layout.classes))
    if len(wrong):
        first = int(wrong[0])
        raise RecalibError(f"{file} is mislabelled: image {first} has label {labels[first]} of {layout.classes}")
    return pixels, labels


def _binary(label_bytes: int) -> Callable[[Path, str], tuple[np.ndarray, np.ndarray]]:
    def parse(file: Path, _key: str) -> tuple[np.ndarray, np.ndarray]:
        raw = np.fromfile(file, np.uint8)
        size = label_bytes + PIXELS
        if len(raw) % size:
            raise RecalibError(f"{file} is truncated: {len(raw):,} bytes are no whole number of {size}-byte records")
        records = raw.reshape(-1, size)
        return records[:, label_bytes:], records[:, label_bytes - 1]

    return parse


def _python(file: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    content = read_pickle(file)
    pixels, labels = content.get("data"), content.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (PIXELS,) or not isinstance(labels, list):
        raise RecalibError(f"{file} should hold data of {PIXELS} bytes an image and {key}; it has {sorted(content)}")
    return pixels, np.asarray(labels)


def _classes(layout: Layout, folder: Path) -> tuple[str, ...]:
    file = folder / layout.names
    if not file.is_file():
        return tuple(str(i) for i in range(layout.classes))
    names = file.read_text().split() if file.suffix == ".txt" else read_pickle(file).get(_NAMES[layout.key], [])
    if len(names) != layout.classes:
        raise RecalibError(f"{file} names {len(names)} classes instead of {layout.classes}")
    return tuple(names)


_NAMES = {"labels": "label_names", "fine_labels": "fine_label_names"}
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS: dict[CifarName, tuple[Layout, ...]] = {
    "cifar10": (
        Layout("cifar-10-batches-bin", tuple(f"{b}.bin" for b in _BATCHES), ("test_batch.bin",),
               "batches.meta.txt", 10, _binary(1), "labels"),
        Layout("cifar-10-batches-py", _BATCHES, ("test_batch",), "batches.meta", 10, _python, "labels"),
    ),
    "cifar100": (
        Layout("cifar-100-binary", ("train.bin",), ("test.bin",),
               "fine_label_names.txt", 100, _binary(2), "fine_labels"),
        Layout("cifar-100-python", ("train",), ("test",), "meta", 100, _python, "fine_labels"),
    ),
}  # fmt: skip
