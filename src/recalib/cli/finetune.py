"""``recalib finetune``: attention into a trained network, before and after training, as Table 3 of the paper."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from recalib.classification import ClassificationJob, recipe, run
from recalib.classification.finetune import as_json, markdown, table, variants
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.runs import environment

EXAMPLE = """Put attention into a trained network, evaluate it as it is ("Initialized"), and fine-tune it.

  recalib finetune --weights resnet20-12fca82f.th --data DIR --modules baseline ab eca se
  recalib finetune finetune-long --weights runs/NAME --data DIR --modules srm --starts identity"""


@dataclass(frozen=True)
class Arguments:
    """What may stand beside the job's own flags.

    Attributes:
        job: recipe, data and folder.
        modules: attention modules to compare, and baseline.
        starts: how modules start: with their own initial weights, as the identity, or each in turn.
        resume: go on with the runs that were begun.
        json: write the table here.
    """

    job: Annotated[ClassificationJob, tyro.conf.arg(name="")]
    modules: tuple[str, ...] = ("baseline", "ab", "eca", "se", "srm", "multi_se", "gct")
    starts: tuple[Literal["default", "identity"], ...] = ("default", "identity")
    resume: bool = False
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    named = bool(argv) and not argv[0].startswith("-")
    preset = argv[0] if named else "finetune-short"
    given = parse(
        Arguments,
        argv[named:],
        "recalib finetune [RECIPE]",
        description=EXAMPLE,
        default=Arguments(ClassificationJob(recipe=recipe(preset), preset=preset)),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    folders = []
    for job in variants(given.job, given.modules, given.starts):
        outcome = run(job, resume=given.resume)
        if outcome.stopped:
            if outcome.first:
                print(f"{outcome.stopped}; or the same command with --resume for the whole table")
            return 0
        folders.append(outcome.folder)
    if not outcome.first:
        return 0
    rows = table(folders)
    write_json(given.json, {"table": as_json(rows), "config": given.job.config(), "environment": environment()})
    print(markdown(rows))
    return 0
