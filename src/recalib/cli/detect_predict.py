"""``recalib detect predict``: boxes, masks, names and scores drawn into pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track
from torch import nn
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import to_pil_image
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.detection.checkpoints import load_detector
from recalib.detection.prediction import draw, see
from recalib.detection.watch import animation, open_image
from recalib.errors import RecalibError


@dataclass(frozen=True)
class Arguments:
    """Draw what a detector sees into pictures.

    Example: recalib detect predict street.jpg photos --checkpoint runs/A --out pictures
    A training: recalib detect train ... --watch street.jpg, then
    recalib detect predict --checkpoint runs/A --watch-training --out pictures
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGES")] = ()
    """files, or folders of them"""
    checkpoint: Path = tyro.MISSING
    """a run of recalib detect train, or its weights"""
    out: Path = Path("predictions")
    """folder for the pictures and predictions.json"""
    score: float = 0.5
    """what is less certain is left out"""
    watch_training: bool = False
    """make training.gif of the image that the run watched over its epochs"""
    device: str | None = None
    """such as cpu or cuda; by default the best this machine has"""
    json: Path | None = None
    """a further file for what predictions.json holds"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib detect predict", config=(FlagCreatePairsOff,))
    if not args.images and not args.watch_training:
        raise RecalibError("which images? Name files or folders, or give --watch-training")
    if args.watch_training:
        args.out.mkdir(parents=True, exist_ok=True)
        count = animation(args.checkpoint, args.out / "training.gif")
        print(f"{args.out / 'training.gif'}: {count} epochs")
    if args.images:
        _predict(args)
    return 0


def _predict(args: Arguments) -> None:
    files = list(dict.fromkeys(_files(args.images)))
    model, classes = load_detector(args.checkpoint)
    model.to(device_of(args.device))
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    shown = track(files, "predicting", transient=True, console=console, disable=not console.is_terminal)
    found = [_one(args, file, model, classes, _name(file, i, files)) for i, file in enumerate(shown)]
    for path in (args.out / "predictions.json", args.json):
        write_json(path, found)


def _one(args: Arguments, file: Path, model: nn.Module, classes: tuple[str, ...], name: str) -> dict[str, Any]:
    image = open_image(file)
    seen = see(model, image, args.score)
    to_pil_image(draw(image, seen, classes)).save(args.out / name)
    objects = seen.objects(classes)
    print(f"{args.out / name}: {len(objects)} objects")
    return {"image": str(file), "picture": name, "objects": objects}


def _files(images: tuple[Path, ...]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
        elif path.is_file():
            yield path
        else:
            raise RecalibError(f"{path} does not exist")


def _name(file: Path, place: int, files: list[Path]) -> str:
    """Of the picture; files that share a name in different folders are numbered."""
    twins = [other for other in files if other.stem == file.stem]
    return f"{file.stem}.png" if len(twins) == 1 else f"{file.stem}-{place}.png"
