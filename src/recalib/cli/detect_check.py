"""``recalib detect check``: what is wrong with a data set, before anything is trained on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.progress import track
from tyro.conf import Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.data.annotations import Annotations, Problem, counts
from recalib.data.check import broken_images, problems_of
from recalib.data.labels import label_files, read_annotations

SHOWN = 5  # of each kind


@dataclass(frozen=True)
class Arguments:
    """List what is wrong with COCO or BDD100K data.

    Missing and broken images, boxes that are empty, inverted, not finite or outside of their image, masks that are
    none, unknown categories and images, duplicate ids. Training leaves these out, or with --strict refuses them.

    Examples:
      recalib detect check DATA --split train --json problems.json
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """folder of the data set, or one of its label files"""
    split: str | None = None
    """look at this part only, such as train or val2017"""
    strict: bool = False
    """exit with 1 if anything is wrong"""
    json: Path | None = None
    """file for all of it"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib detect check")
    found = [_check(read_annotations(file)) for file in label_files(args.data, args.split)]
    write_json(args.json, {"label_files": found, "sound": not any(each["problems"] for each in found)})
    return int(args.strict and any(each["problems"] for each in found))


def _check(annotations: Annotations) -> dict[str, Any]:
    decoded = track(
        broken_images(annotations), f"decoding {annotations.folder.name}", len(annotations.images), transient=True,
        console=Console(stderr=True), disable=not Console(stderr=True).is_terminal,
    )  # fmt: skip
    problems = [*problems_of(annotations), *(problem for problem in decoded if problem is not None)]
    _say(annotations, problems)
    return {
        "labels": str(annotations.source),
        "images": len(annotations.images),
        "objects": len(annotations.objects),
        "categories": len(annotations.categories),
        "counts": counts(problems),
        "problems": [{"kind": p.kind, "where": p.where, "detail": p.detail} for p in problems],
    }


def _say(annotations: Annotations, problems: list[Problem]) -> None:
    size = f"{len(annotations.images)} images, {len(annotations.objects)} objects"
    print(f"{annotations.source}: {size}, {'nothing is wrong' if not problems else f'{len(problems)} problems'}")
    for kind, count in counts(problems).items():
        print(f"  {kind}: {count}")
        for problem in [p for p in problems if p.kind == kind][:SHOWN]:
            print(f"    {problem.where}: {problem.detail}")
        if count > SHOWN:
            print(f"    and {count - SHOWN} more (all of them: --json FILE)")
