"""``recalib evaluate``: accuracy of a checkpoint or run, with its uncertainty, and against another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from recalib.classification.evaluation import Evaluation, evaluate
from recalib.classification.scores import mcnemar
from recalib.cli.arguments import parse
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.runs import environment

EXAMPLE = """Evaluate a checkpoint, ours or another project's, or a run.

Examples:
  recalib evaluate --weights resnet20.th --data DIR --json OUT.json
  recalib evaluate --weights runs/A --against runs/B --data DIR"""


@dataclass(frozen=True)
class Arguments:
    """Flags of the command.

    Attributes:
        weights: a file in a format that is known here, one of recalib export, or a run's folder.
        data: folder with cifar-10-batches-bin or -py, cifar-100-binary or -python, or ImageNet's val.
        against: another checkpoint or run, compared image by image (McNemar's test).
        model: the network, where the checkpoint does not tell it.
        normalization: mean and std of the input (cifar, imagenet, tensorflow), instead of the checkpoint's.
        dataset: by default what the folder holds.
        size: side of ImageNet's images, instead of what the checkpoint tells.
        limit: evaluate on so many images only.
        workers: processes that read images.
        device: such as cpu or cuda; by default the best this machine has.
        json: write the results here.
    """

    weights: Path
    data: Path = Path("data")
    against: Path | None = None
    model: str | None = None
    normalization: str | None = None
    dataset: Literal["cifar10", "cifar100", "imagenet"] | None = None
    size: Annotated[int | None, arg(metavar="SIDE")] = None
    limit: int | None = None
    workers: int = 4
    device: str | None = None
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib evaluate", description=EXAMPLE)
    first = _evaluate(given, given.weights)
    result = first.results()
    _say(result)
    if given.against is not None:
        second = _evaluate(given, given.against)
        result["against"] = second.results()
        _say(result["against"])
        result["mcnemar"] = mcnemar(first.predictions.correct(), second.predictions.correct())
        _compare(result)
    write_json(given.json, {**result, "environment": environment()})
    return 0


def _evaluate(given: Arguments, checkpoint: Path) -> Evaluation:
    return evaluate(
        checkpoint, given.data, model=given.model, normalization=given.normalization, dataset=given.dataset,
        image_size=given.size, limit=given.limit, workers=given.workers,
        device=device_of(given.device),
    )  # fmt: skip


def _say(result: dict[str, Any]) -> None:
    low, high = result["top1_interval"]
    print(f"{result['checkpoint']}")
    print(f"  {result['format']} checkpoint of {result['architecture']}, attention: {result['attention'] or 'none'}")
    print(f"  normalised as {result['normalization']} (from {result['normalization_from']}); {result['images']} images")
    size, crop = result["image_size"], result["crop"]
    on = f"; trained on {result['trained_on']}" if result["trained_on"] else ""
    print(f"  at {size} pixels (from {result['image_size_from']}), crop {crop:.3g}, {result['interpolation']}{on}")
    print(f"  top-1 {result['top1']:.2f} % (95 % interval {low:.2f} to {high:.2f}), top-5 {result['top5']:.2f} %")
    print(f"  calibration error {result['calibration_error']:.2f} %, loss {result['loss']:.4f}")
    worst = sorted(result["per_class"].items(), key=lambda item: item[1])[:3]
    print("  lowest classes: " + ", ".join(f"{name} {value:.1f} %" for name, value in worst))
    if result["unreadable"]:
        print(f"  {len(result['unreadable'])} images could not be read and were left out: {result['unreadable'][:10]}")


def _compare(result: dict[str, Any]) -> None:
    test = result["mcnemar"]
    print(
        f"only the first is right on {test['only_first']} images, only the second on {test['only_second']}: "
        f"p = {test['p']:.2g} (exact McNemar test)"
    )
