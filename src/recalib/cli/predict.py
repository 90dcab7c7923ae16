"""``recalib predict``: what a network takes images for."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import track
from tyro.conf import Positional, arg

from recalib.cli.arguments import ImageSize, parse
from recalib.cli.json_file import write_json
from recalib.cli.pictures import files_in, say_left_out
from recalib.deploy.classifier import Classifier, Prediction, classify, open_classifier
from recalib.errors import RecalibError
from recalib.measure.sizes import sides
from recalib.report.sheet import write_sheet
from recalib.runs.folder import weights_of


@dataclass
class Arguments:
    """Classify images with a checkpoint, a run, or a file of recalib export.

    Examples:
      recalib predict photos/ --weights mobilenet.onnx --out sheet.png
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGES")]
    """Images, and folders of images."""
    weights: Path
    """A checkpoint of ours or another project's, a run's folder, or an exported .onnx, .xml or .pt2."""
    model: str | None = None
    """The network of a checkpoint that does not tell it."""
    size: ImageSize | None = None
    """Side, or height and width, to classify at; by default those the network was made for."""
    out: Path | None = None
    """Draw a sheet of the pictures with their classes here (.png)."""
    json: Path | None = None
    """Write the predictions here, for machines."""


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib predict")
    files = files_in(given.images)
    if not files:
        raise RecalibError("which images? Name files or folders")
    classifier = open_classifier(
        weights_of(given.weights), model=given.model, size=None if given.size is None else sides(given.size)
    )
    terminal = Console(stderr=True)
    shown = track(
        classify(classifier, files), "classifying", len(files), console=terminal, transient=True,
        disable=not terminal.is_terminal,
    )  # fmt: skip
    tried = list(shown)
    predictions = [one for one in tried if one.classes]
    about, unreadable = classifier.about, [str(one.file) for one in tried if not one.classes]
    size = "x".join(map(str, about.size))
    print(f"shown at {size}, {about.crop:.3g} of the short side, {about.interpolation}", file=sys.stderr)
    for prediction in predictions:
        _say(prediction)
    say_left_out(unreadable, len(tried))
    if given.out is not None:
        write_sheet(given.out, predictions, classifier.about)
        print(given.out)
    write_json(given.json, {**_results(given, classifier, predictions), "unreadable": unreadable})
    return 0


def _say(prediction: Prediction) -> None:
    classes = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in prediction.classes)
    print(f"{prediction.file}: {classes}")


def _results(given: Arguments, classifier: Classifier, predictions: list[Prediction]) -> dict[str, object]:
    rows = [
        {"file": str(one.file), "top": [{"name": name, "probability": p} for name, p in one.classes]}
        for one in predictions
    ]
    about = classifier.about
    told = {"model": about.model, "attention": about.attention, "size": about.size}
    return {"checkpoint": str(given.weights), "format": classifier.form, **told, "images": rows}
