"""``recalib segment predict``: label images of pictures, and their classes drawn over them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image
from tyro.conf import Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.cli.pictures import files_in, seen_in
from recalib.errors import RecalibError
from recalib.runs import write_atomically
from recalib.segmentation.networks import load_segmenter
from recalib.segmentation.prediction import segment


@dataclass(frozen=True)
class Arguments:
    """Say of every pixel what it is: NAME.png holds numbers of classes, NAME-drawn.png shows them over the picture.

    Examples:
      recalib segment predict street.jpg photos --weights runs/A --out labels
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGES")]
    """files, or folders of them"""
    weights: Path = tyro.MISSING
    """a run of recalib segment train, or its weights"""
    out: Path = Path("predictions")
    """folder for the label images, the drawn ones and predictions.json"""
    device: str | None = None
    """such as cpu or cuda; by default the best this machine has"""
    json: Path | None = None
    """a further file for what predictions.json holds"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib segment predict")
    files = files_in(args.images)
    if not files:
        raise RecalibError("which images? Name files or folders")
    network, classes, side = load_segmenter(args.weights)
    network.to(device_of(args.device))
    args.out.mkdir(parents=True, exist_ok=True)

    def see(file: Path, name: str, picture: Image.Image) -> dict[str, Any]:
        seen = segment(network, picture, side)
        for image, place in ((seen.label_image(), f"{name}.png"), (seen.drawn(), f"{name}-drawn.png")):
            _save(image, args.out / place)
        shares = seen.shares(classes)
        told = ", ".join(f"{label} {100 * share:.1f} %" for label, share in list(shares.items())[:5])
        print(f"{args.out / name}.png: {told}")
        return {"image": str(file), "labels": f"{name}.png", "drawn": f"{name}-drawn.png", "shares": shares}

    found, unreadable = seen_in(files, see)
    for path in (args.out / "predictions.json", args.json):
        write_json(path, {"classes": list(classes), "images": found, "unreadable": unreadable})
    return 0


def _save(image: Image.Image, path: Path) -> None:
    write_atomically(path, lambda fresh: image.save(fresh, "PNG"))
