"""Images and the class of each of their pixels: COCO's masks, or folders of label images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from recalib.data import NORMALIZATIONS, Share, generator_for, seed_for
from recalib.data.coco import find_coco
from recalib.data.detection_data import open_detection
from recalib.data.order import order_of, share_of, steps_in
from recalib.data.pictures import image_files, open_picture
from recalib.errors import RecalibError

IGNORED = 255  # the label of pixels that count neither way
Pair = tuple[Tensor, Tensor]  # an image (3, H, W), uint8, and labels (H, W), uint8
Batch = tuple[Tensor, Tensor]  # images (N, 3, S, S), float32, and labels (N, S, S), int64


@dataclass(frozen=True)
class Pictures:
    """Labelled images.

    Attributes:
        read: the image at a place and its labels; None where it cannot be read.
        names: files of the images.
        classes: names, by label; the first is what is nothing else.
        source: name of the whole.
        places: those of the images that are used.
    """

    read: Callable[[int], Pair | None]
    names: Sequence[str]
    classes: tuple[str, ...]
    source: str
    places: Sequence[int]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.places)

    def only(self, chosen: Sequence[int]) -> "Pictures":
        """Those at some places."""
        return Pictures(self.read, self.names, self.classes, self.source, [self.places[i] for i in chosen])


def open_pictures(root: Path, split: str) -> Pictures:
    """A part of a data set in COCO's form, or of one in folders.

    In folders: ``images/SPLIT/NAME.jpg`` and ``labels/SPLIT/NAME.png`` of the same size, whose pixels are numbers of
    classes, 255 for what does not count; ``classes.txt`` has a name a line, the first for 0.

    Raises:
        RecalibError: where there is neither, or a label image is missing.
    """
    if root.is_file() or find_coco(root):
        return _of_coco(root, split)
    images, labels, names = root / "images" / split, root / "labels" / split, root / "classes.txt"
    if not (images.is_dir() and labels.is_dir() and names.is_file()):
        raise RecalibError(
            f"{root} holds no data to segment: neither COCO's instances_{split}.json nor images/{split}, "
            f"labels/{split} and classes.txt"
        )
    classes = tuple(line.strip() for line in names.read_text().splitlines() if line.strip())
    if not 1 < len(classes) <= IGNORED or len(set(classes)) < len(classes):
        raise RecalibError(f"{names} names {len(classes)} classes: 2 to {IGNORED} are possible, each named once")
    files = image_files(images)
    missing = [file for file in files if not (labels / f"{file.stem}.png").is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise RecalibError(f"{labels / f'{missing[0].stem}.png'} is missing: the labels of {missing[0]}{more}")

    def read(place: int) -> Pair | None:
        picture, label = open_picture(files[place]), labels / f"{files[place].stem}.png"
        if picture is None:
            return None
        try:
            with Image.open(label) as opened:
                numbers = torch.from_numpy(np.array(opened, np.uint8))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise RecalibError(f"{label} cannot be read: {error}") from None
        if numbers.shape != (picture.height, picture.width):
            raise RecalibError(
                f"{label} is of another size than {files[place]}, or in colours: give numbers of classes"
            )
        strange = numbers[(numbers >= len(classes)) & (numbers != IGNORED)]
        if len(strange):
            raise RecalibError(f"{label} has class {int(strange[0])}; {names} names {len(classes)}, from 0")
        return pil_to_tensor(picture), numbers

    return Pictures(read, [str(file) for file in files], classes, f"{root.name}/{split}", range(len(files)))


def _of_coco(root: Path, split: str) -> Pictures:
    dataset = open_detection(root, split=split, masks=True)

    def read(place: int) -> Pair | None:
        image = dataset.read(place)
        if image is None:
            return None
        target, labels = dataset.target(place), torch.zeros(image.shape[1:], dtype=torch.uint8)
        for i in target["area"].argsort(descending=True):  # the smaller lie on the larger
            crowd = bool(target["iscrowd"][i])
            labels[target["masks"][i].bool()] = IGNORED if crowd else int(target["labels"][i])
        return image, labels

    if len(dataset.classes) > IGNORED:
        raise RecalibError(f"{root}: {len(dataset.classes)} classes; label images hold {IGNORED}")
    names = [str(dataset.file(i)) for i in range(len(dataset))]
    return Pictures(read, names, dataset.classes, dataset.annotations.source.stem, range(len(dataset)))


class _Shown(Dataset[tuple[Tensor, Tensor, int]]):
    """Pictures as a network is shown them; for one that cannot be read the next that can, and its place."""

    def __init__(self, pictures: Pictures, change: v2.Transform, counters: tuple[int, ...]) -> None:
        self.pictures, self.change, self.counters = pictures, change, counters

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        count = len(self.pictures)
        for place in ((index + i) % count for i in range(count)):
            pair = self.pictures.read(self.pictures.places[place])
            if pair is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed_for(*self.counters, index))
                    image, labels = self.change(tv_tensors.Image(pair[0]), tv_tensors.Mask(pair[1]))
                plain = image.as_subclass(Tensor), labels.as_subclass(Tensor)
                return *plain, -1 if place == index % count else index % count
        raise RecalibError(f"none of {count} images can be read, {self.pictures.names[0]} the first of them")


def fitted(size: int) -> list[v2.Transform]:
    """The whole picture within a square, what is left filled with pixels that do not count."""
    return [_Fit(size, {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED})]


class _Fit(v2.Transform):
    def __init__(self, size: int, fill: Any) -> None:
        super().__init__()
        self.size, self.fill = size, fill

    def forward(self, *inputs: Any) -> Any:
        """Scale the longer side to the size, and pad below and on the right."""
        height, width = inputs[0].shape[-2:]
        scale = self.size / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        pad = v2.Pad([0, 0, self.size - w, self.size - h], fill=self.fill)
        return pad(*v2.Resize([h, w], antialias=True)(inputs))


def changes(augment: str, size: int) -> v2.Transform:
    """Augmentation of a picture: ``"none"``, or ``"crop"``: scaled by 0.5 to 2, cropped at random, and flipped."""
    if augment == "none":
        return v2.Compose(fitted(size))
    fill: Any = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    return v2.Compose([
        *fitted(size), v2.ScaleJitter((size, size), (0.5, 2.0)),
        v2.RandomCrop(size, pad_if_needed=True, fill=fill), v2.RandomHorizontalFlip(),
    ])  # fmt: skip


class SegmentationFeed:
    """Batches of images and labels, each a function of (seed, epoch, step).

    Args:
        pictures: the images.
        batch: images a step, over all processes.
        change: transform of each.
        device: place of the batches.
        seed: decides order and augmentation.
        repeat: passes over the images in an epoch.
        drop_last: let images that do not fill a batch sit out the epoch.
        workers: processes that read images.
        share: this process, and how many there are.

    Raises:
        RecalibError: where a batch has less images than there are processes.
    """

    def __init__(
        self, pictures: Pictures, batch: int, change: v2.Transform, *, device: torch.device, seed: int = 0,
        repeat: int = 1, drop_last: bool = False, workers: int = 0, share: Share = (0, 1),
    ) -> None:  # fmt: skip
        self.pictures, self.batch, self.change, self.device, self.seed = pictures, batch, change, device, seed
        self.repeat, self.drop_last, self.workers, self.share = repeat, drop_last, workers, share
        self.count, self.unreadable = len(pictures) * repeat, list[str]()
        if len(self) == 0:
            raise RecalibError(f"batch {batch}: gives {share[1]} processes no batch of {self.count} images")

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in(self.count, self.batch, self.drop_last, self.share)

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, from a step on."""
        draw = generator_for(self.seed, attempt, epoch)
        passes = torch.arange(self.repeat).repeat_interleave(len(self.pictures)) * len(self.pictures)
        order = (order_of(len(self.pictures), self.repeat, draw) + passes).tolist()
        steps = [order[share_of(step, self.batch, self.count, self.share)] for step in range(start, len(self))]
        yield from self.load(steps, (self.seed, attempt, epoch))

    def in_order(self, batch: int) -> Iterator[Batch]:
        """This process's share of all images once, as they are; those that cannot be read are left out."""
        mine = list(range(self.share[0], len(self.pictures), self.share[1]))
        yield from self.load([mine[i : i + batch] for i in range(0, len(mine), batch)], (0,))

    def load(self, steps: Sequence[list[int]], counters: tuple[int, ...]) -> Iterator[Batch]:
        """Batches of the pictures at these places."""
        shown = _Shown(self.pictures, self.change, counters)
        reader: Any = DataLoader(
            shown, batch_sampler=steps, num_workers=self.workers, generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        for images, labels, lost in reader:
            for place in lost[lost >= 0].tolist():
                name = self.pictures.names[self.pictures.places[place]]
                if name not in self.unreadable:
                    self.unreadable.append(name)
            labels = torch.where((lost >= 0)[:, None, None], IGNORED, labels.long())  # a stand-in teaches nothing twice
            images = images.to(self.device, non_blocking=True)
            yield NORMALIZATIONS["imagenet"](images), labels.to(self.device, non_blocking=True)
