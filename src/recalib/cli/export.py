"""``recalib export``: a network as a file for another runtime, checked by running it."""

import dataclasses
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from recalib.cli.arguments import ImageSize, parse
from recalib.cli.json_file import write_json
from recalib.data.pictures import image_files, open_picture
from recalib.deploy import export
from recalib.deploy.about import About
from recalib.deploy.classifier import NoClassifier, open_classifier
from recalib.deploy.classifier_file import TOLERANCE, Export, export_classifier
from recalib.deploy.formats import find_format
from recalib.deploy.formats.base import AXES
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.sizes import sides
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import example_input, insert_

MOST_IMAGES = {"fp32": 32, "int8": 256}  # of a folder, spread evenly; half of the latter calibrate


@dataclass
class Arguments:
    """Write a network, deployed, to a file for another runtime, and compare that file with PyTorch.

    Labels and preprocessing go into the file's metadata: recalib predict and recalib evaluate need nothing else.
    Networks that are no classifiers (segmentation, YOLO) keep the names of their outputs.

    Examples:
      recalib export resnet50 --attention eca --to onnx
      recalib export runs/A --to onnx --dynamic --images photos --out a.onnx
      recalib export runs/A --to openvino --precision int8 --images photos
    """

    source: Annotated[Positional[str], arg(metavar="CHECKPOINT_OR_MODEL")]
    """A checkpoint of ours or another project's, a run's folder, or a model's name (random weights)."""
    to: Literal["onnx", "openvino", "tensorrt", "torch-export"] = "onnx"
    """The format. TensorRT engines have not been run: see docs/export.md."""
    precision: Literal["fp32", "int8"] = "fp32"
    """int8 (onnx, openvino): calibrated on every second of the images and compared, without a limit, on the others."""
    attention: str | None = None
    """Attention to insert, where a model is named."""
    pretrained: bool = False
    """Download and load the published weights of a named model, such as timm:resnet50.a1_in1k."""
    model: str | None = None
    """The network of a checkpoint that does not tell it."""
    size: ImageSize | None = None
    """Side of the images, or height and width; by default those the network was made for."""
    batch: int = 1
    """Images in one forward pass."""
    dynamic: bool = False
    """Take any batch and size: the form is then one that is free of them, not what ONNX Runtime runs fastest."""
    opset: int | None = None
    """Of ONNX, 18 to 25; by default the exporter's own choice."""
    images: Path | None = None
    """An image or a folder of images to compare on; without it, noise."""
    tolerance: float = TOLERANCE
    """Largest difference of any image's logits, relative to the largest of them, that passes."""
    out: Path | None = None
    """The file; by default the source's name with the format's suffix."""
    json: Path | None = None
    """Write the result here, for machines."""


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib export")
    if not 0 <= given.tolerance < float("inf"):
        raise RecalibError(f"--tolerance {given.tolerance}: a share such as {TOLERANCE:g}")
    form = find_format(given.to)
    form.require()
    if given.batch < 1:
        raise RecalibError(f"--batch {given.batch}: at least 1")
    if given.opset is not None and given.to == "torch-export":
        raise RecalibError("--opset belongs to onnx and openvino")
    source = Path(given.source)
    out = given.out or Path(source.name.replace(":", "_")).with_suffix(form.suffix)
    if out.suffix != form.suffix:
        raise RecalibError(f"--out {out}: a file for {form.name} ends in {form.suffix}")
    try:
        classifier = open_classifier(
            weights_of(source) if source.is_dir() else given.source,
            model=given.model, attention=given.attention, size=None if given.size is None else sides(given.size),
            pretrained=given.pretrained,
        )  # fmt: skip
    except NoClassifier as reason:
        return _export_network(given, out, reason)
    about = replace(classifier.about, batch=given.batch, dynamic=given.dynamic)
    files = _files(given.images, MOST_IMAGES[given.precision])
    terminal = Console(stderr=True)
    working = terminal.status(f"writing and checking {out.name}") if terminal.is_terminal else nullcontext()
    with working:
        done = export_classifier(
            classifier.network, out, about, to=given.to, opset=given.opset, files=files,
            precision=given.precision, tolerance=given.tolerance,
        )  # fmt: skip
    if classifier.form == "untrained":
        print(f"{given.source}: random weights")
    _say(done)
    write_json(given.json, {**dataclasses.asdict(done), "path": str(done.path)})
    return 0


def _export_network(given: Arguments, out: Path, reason: NoClassifier) -> int:
    """A segmentation network, a YOLO, ...: its outputs keep their names, and there are no labels."""
    if given.images is not None or given.precision != "fp32" or Path(given.source).exists():
        raise RecalibError(f"{reason}: --images, --precision int8 and checkpoints are for classifiers")
    network = create_model(given.source, pretrained=given.pretrained)
    if given.attention is not None:
        insert_(network, given.attention, identity=given.pretrained)
    _, C, *made_for = example_input(network).shape
    done = export(
        network, (given.batch, C, *(made_for if given.size is None else sides(given.size))), out, to=given.to,
        dynamic=tuple(AXES) if given.dynamic else (), opset=given.opset, tolerance=given.tolerance,
    )  # fmt: skip
    if not given.pretrained:
        print(f"{given.source}: random weights")
    shapes = ", ".join("x".join(map(str, shape)) for shape in done.shapes)
    print(
        f"{done.path}: {done.form}, outputs {', '.join(done.outputs)}, free axes: {', '.join(done.dynamic) or 'none'}"
    )
    print(f"  form: deploy(target={done.target!r})")
    print(f"  largest relative difference to PyTorch of any output on noise ({shapes}): {done.difference:.1e}")
    write_json(given.json, {**dataclasses.asdict(done), "path": str(done.path)})
    return 0


def _files(images: Path | None, most: int) -> list[Path]:
    if images is None:
        return []
    if not images.exists():
        raise RecalibError(f"--images {images}: there is no such file or folder")
    files = image_files(images) if images.is_dir() else [images]
    chosen = files[:: -(-len(files) // most)]
    readable = [file for file in chosen if open_picture(file) is not None]
    for file in chosen:
        if file not in readable:
            print(f"{file}: left out, for it cannot be read, or is too large", file=sys.stderr)
    if not readable:
        raise WorkFailed(f"--images {images}: none of {len(chosen)} files can be read as an image")
    return readable


def _say(done: Export) -> None:
    shapes = ", ".join("x".join(map(str, shape)) for shape in done.shapes)
    attention = done.about.attention or "no attention"
    print(f"{done.path}: {done.form} in {done.precision}, {done.about.model} with {attention}, {_holds(done.about)}")
    print(f"  form: deploy(target={done.target!r})")
    print(f"  largest relative difference to PyTorch on {done.images} images ({shapes}): {done.difference:.1e}")
    print(f"  same most probable class: {done.top1_agreement:.1f} % of them")
    labels = f"{len(done.about.labels)} labels" if done.about.labels else "no labels (nobody told them)"
    print(
        f"  metadata: {labels}, mean {done.about.mean}, std {done.about.std}, {done.about.crop:.3g} of the short side"
    )


def _holds(about: About) -> str:
    size = "x".join(map(str, about.size))
    return f"any batch and size (made for {size})" if about.dynamic else f"batch {about.batch}, {size}"
