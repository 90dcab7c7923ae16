"""``recalib detect predict``: boxes, masks, names and scores drawn into pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from tyro.conf import Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.cli.pictures import files_in, seen_in
from recalib.detection.checkpoints import load_detector
from recalib.detection.prediction import draw, see
from recalib.detection.watch import animation
from recalib.errors import RecalibError


@dataclass(frozen=True)
class Arguments:
    """Draw what a detector sees into pictures.

    Examples:
      recalib detect predict street.jpg photos --weights runs/A --out pictures

    A training that watched an image, as a film:
      recalib detect train coco-1x --data COCO --watch street.jpg
      recalib detect predict --weights runs/A --watch-training --out pictures
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGES")] = ()
    """files, or folders of them"""
    weights: Path = tyro.MISSING
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
    args = parse(Arguments, argv, "recalib detect predict")
    if not args.images and not args.watch_training:
        raise RecalibError("which images? Name files or folders, or give --watch-training")
    if args.watch_training:
        args.out.mkdir(parents=True, exist_ok=True)
        count = animation(args.weights, args.out / "training.gif")
        print(f"{args.out / 'training.gif'}: {count} epochs")
    if args.images:
        _predict(args)
    return 0


def _predict(args: Arguments) -> None:
    files = files_in(args.images)
    model, classes = load_detector(args.weights)
    model.to(device_of(args.device))
    args.out.mkdir(parents=True, exist_ok=True)

    def one(file: Path, name: str, picture: Image.Image) -> dict[str, Any]:
        image, drawn = pil_to_tensor(picture), f"{name}.png"
        seen = see(model, image, args.score)
        to_pil_image(draw(image, seen, classes)).save(args.out / drawn)
        objects = seen.objects(classes)
        print(f"{args.out / drawn}: {len(objects)} objects")
        return {"image": str(file), "picture": drawn, "objects": objects}

    found, _ = seen_in(files, one)
    for path in (args.out / "predictions.json", args.json):
        write_json(path, found)
