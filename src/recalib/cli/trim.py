"""``recalib trim``: gates that hardly look at the image become constants, and cost nothing."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError, WorkFailed, require_packages
from recalib.report import require_drawing
from recalib.runs import environment
from recalib.runs.environment import without_place
from recalib.study.checkpoint import TrimJob, trim_checkpoint

EXAMPLE = """Freeze the gates that do not earn their milliseconds; what is left is a checkpoint like any other.

Examples:
  recalib trim srm_resnet32.pth --data DIR --to trimmed.safetensors
  recalib trim runs/NAME --data DIR --time 3% --to trimmed.safetensors
  recalib evaluate --weights trimmed.safetensors --data DIR"""


@dataclass(frozen=True)
class Arguments:
    """Flags of the command.

    Attributes:
        source: a checkpoint, ours or another project's, or a run's folder.
        data: CIFAR's official files, ImageNet's train (and val), or a folder of images without labels.
        to: write the trimmed checkpoint here; what is done on the way is kept beside it, in NAME-trim.
        loss: points of accuracy that may be lost, on training images set aside.
        time: share of the plain network's time that attention may still cost, such as 3%, instead of --loss.
        keep: so many gates stay, instead of --loss.
        finetune: epochs of fine-tuning, on training images that nothing is judged on; with --loss as many gates are
            frozen as may be with it.
        trained: part to fine-tune: all, or attention+norms, the gates that stay and the norms alone.
        runtime: whose time counts: eager, onnxruntime, openvino, ...
        batch: images in a forward pass that is timed.
        images: training images that are used; by default 5,000 of CIFAR, 1,000 of others.
        rounds: timings of each network.
        model: the network of a checkpoint that does not tell it.
        attention: to be inserted where a model's name is given instead of a checkpoint.
        test: look at the test set once, at the end.
        resume: go on with what was begun.
        page: draw the curve and the table of sites here (.html).
        json: write everything that was found here.
    """

    source: Annotated[Positional[str], arg(metavar="CHECKPOINT")]
    data: Path
    to: Path
    loss: float | None = None
    time: str | None = None
    keep: int | None = None
    finetune: int = 0
    trained: Literal["all", "attention+norms"] = "all"
    runtime: str = "eager"
    batch: int = 1
    images: int | None = None
    rounds: int = 30
    model: str | None = None
    attention: str | None = None
    test: bool = True
    resume: bool = False
    page: Path | None = None
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib trim", description=EXAMPLE)
    job = _job(given)
    if given.page is not None:
        require_drawing()
    if given.finetune:
        require_packages(("lightning_fabric",), "train", "fine-tuning")
    console = Console(soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    try:
        result = trim_checkpoint(job, resume=given.resume, say=say)
    except KeyboardInterrupt:
        raise WorkFailed("stopped; the same command with --resume goes on") from None
    console.print(_table(result))
    for line in (*result["notes"], result["sentence"], str(job.to)):
        say(line)
    write_json(given.json, {**result, "environment": environment()})
    if given.page is not None:
        from recalib.report.trim import trim_page

        command = shlex.join(["recalib", "trim", *map(without_place, argv)])
        given.page.write_text(trim_page(result, command), encoding="utf-8")
        say(str(given.page))
    return 0


def _job(given: Arguments) -> TrimJob:
    limits = [name for name in ("loss", "time", "keep") if getattr(given, name) is not None]
    if len(limits) > 1:
        raise RecalibError(f"--{limits[0]} and --{limits[1]}: give one of --loss, --time and --keep")
    job = TrimJob(
        source=given.source, data=given.data, to=given.to, runtime=given.runtime, batch=given.batch,
        images=given.images, finetune=given.finetune, model=given.model, attention=given.attention, test=given.test,
        rounds=given.rounds, trained=given.trained,
    )  # fmt: skip
    if given.loss is not None:
        return replace(job, loss=given.loss)
    if given.time is not None:
        return replace(job, loss=None, time=_percent(given.time))
    return job if given.keep is None else replace(job, loss=None, keep=given.keep)


def _percent(text: str) -> float:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise RecalibError(f"--time {text}: write it as 3%, the share of the plain network's time") from None


def _table(result: dict[str, object]) -> Table:
    table = Table("site", "frozen", "variation", "loss alone", "linear", "ms", box=None)
    sites: list[dict[str, object]] = result["sites"]  # type: ignore[assignment]
    for site in sites:
        cells = [site[key] for key in ("variation", "loss", "linear", "ms")]
        cells.insert(0, site["stand_in"] or site["why_kept"] or "")
        table.add_row(str(site["name"]), *(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    return table
