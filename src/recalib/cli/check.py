"""``recalib check``: what is wrong with a data set, before anything is trained on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.progress import track
from tyro.conf import Positional, arg

from recalib.cli import detect_check
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.data import find_cifar, find_shards
from recalib.data.annotations import counts
from recalib.data.bdd import find_bdd
from recalib.data.check import Half, check_cifar, check_folder
from recalib.data.coco import find_coco
from recalib.data.shards import address, has_shards
from recalib.errors import RecalibError
from recalib.segmentation.check import check_pictures, is_labelled


@dataclass(frozen=True)
class Arguments:
    """Look over CIFAR, ImageNet's folders or shards, folders of label images, COCO or BDD100K.

    Files that are cut short, images that cannot be decoded, images of each class, and classes that train and val do not
    share; label images that are missing, of another size, or with unknown classes; of detection data what
    `recalib detect check` lists.

    Examples:
      recalib check DATA --strict --json problems.json
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """folder of the data set, or a label file of COCO or BDD100K"""
    strict: bool = False
    """exit with 1 if anything is wrong"""
    json: Path | None = None
    """file for all of it"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib check")
    if address(args.data) is None and not args.data.exists():
        raise RecalibError(f"{args.data}: there is no such file or folder")
    if args.data.is_file() or find_coco(args.data) or find_bdd(args.data):
        return detect_check.main(argv)
    cifar = find_cifar(args.data)
    if cifar is not None:
        halves = check_cifar(args.data, cifar)
    elif is_labelled(args.data):
        halves = check_pictures(args.data, _watched)
    elif any((args.data / part).is_dir() for part in ("train", "val")) or _shards(args.data):
        halves = check_folder(args.data, _watched)
    else:
        raise RecalibError(
            f"{args.data} holds no data set: no official folders of CIFAR, no train and val of ImageNet, no parquet, "
            "no labels of COCO or BDD100K, no images, labels and classes.txt"
        )
    for half in halves:
        _say(args.data, half)
    wrong = [problem for half in halves for problem in half.problems]
    write_json(args.json, {"data": str(args.data), "sound": not wrong, "halves": [_as_json(half) for half in halves]})
    return int(args.strict and bool(wrong))


def _shards(root: Path) -> bool:
    return any(find_shards(root, train=train) or has_shards(root, train=train) for train in (True, False))


def _watched(images: Iterable[Any], count: int) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(images, "decoding", count, console=console, transient=True, disable=not console.is_terminal)


def _say(data: Path, half: Half) -> None:
    fewest = sorted(half.classes.items(), key=lambda item: item[1])
    spread = (
        f", {fewest[0][1]:,} ({fewest[0][0]}) to {fewest[-1][1]:,} ({fewest[-1][0]}) images a class" if fewest else ""
    )
    state = f"{len(half.problems)} problems" if half.problems else "nothing is wrong"
    print(f"{data}, {half.name}: {half.images:,} images of {len(half.classes)} classes{spread}; {state}")
    for kind, count in counts([*half.problems]).items():
        print(f"  {kind}: {count}")
        shown = [problem for problem in half.problems if problem.kind == kind]
        for problem in shown[: detect_check.SHOWN]:
            print(f"    {problem.where}: {problem.detail}")
        if count > detect_check.SHOWN:
            print(f"    and {count - detect_check.SHOWN} more (all of them: --json FILE)")


def _as_json(half: Half) -> dict[str, Any]:
    problems = [{"kind": p.kind, "where": p.where, "detail": p.detail} for p in half.problems]
    return {"half": half.name, "images": half.images, "classes": dict(half.classes), "problems": problems}
