"""``recalib finetune``: attention into a trained network, before and after training, as Table 3 of the paper."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from recalib.attention import PAPER
from recalib.classification import RECIPES, ClassificationJob, recipe, run
from recalib.classification.finetune import as_json, markdown, table, variants
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cli.spelling import modern
from recalib.cli.training import NONE, PLAIN, modules_in, recipe_in
from recalib.measure.cells import BASELINE
from recalib.runs import environment
from recalib.training.repeat import run_jobs, with_seeds

EXAMPLE = """Put attention into a trained network, evaluate it as it is ("Initialized"), and fine-tune it.

Examples:
  recalib finetune --weights resnet20.th --data DIR --attention none ab eca se
  recalib finetune finetune-long --weights runs/NAME --data DIR --attention srm

The recipe is finetune-short where none is named."""

MODULES = (NONE, *PAPER)


@dataclass(frozen=True)
class Arguments:
    """Flags beside the job's own.

    Attributes:
        job: recipe, data and folder.
        starts: starts of the modules: with their own initial weights, as the identity, or each in turn.
        resume: go on with the runs that were begun.
        seeds: fine-tune with so many seeds, counted from the recipe's.
        jobs: runs side by side; by default one, and on a GPU as many as its memory holds.
        json: write the table here.
    """

    job: Annotated[ClassificationJob, tyro.conf.arg(name="")]
    starts: tuple[Literal["default", "identity"], ...] = ("default", "identity")
    resume: bool = False
    seeds: int = 1
    jobs: int | None = None
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    preset, words = recipe_in(modern(argv, "finetune"), ClassificationJob, RECIPES)
    modules, words = modules_in(words, RECIPES)
    preset = preset or "finetune-short"
    given = parse(
        Arguments,
        words,
        "recalib finetune [RECIPE]",
        description=EXAMPLE,
        default=Arguments(ClassificationJob(recipe=recipe(preset), preset=preset)),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    names = [BASELINE if module in PLAIN else module for module in modules or MODULES]
    jobs = variants(given.job, names, given.starts)
    if given.seeds > 1:
        seeded = with_seeds([job.resolved() for job in jobs], given.seeds)
        run_jobs(seeded, given.jobs, resume=given.resume)
        return _finish(given, [job.folder for job in seeded])
    folders = []
    for job in jobs:
        outcome = run(job, resume=given.resume)
        if outcome.stopped:
            if outcome.first:
                print(f"{outcome.stopped}; or the same command with --resume for the whole table")
            return 0
        folders.append(outcome.folder)
    return _finish(given, folders) if outcome.first else 0


def _finish(given: Arguments, folders: list[Path]) -> int:
    rows = table(folders)
    write_json(given.json, {"table": as_json(rows), "config": given.job.config(), "environment": environment()})
    print(markdown(rows))
    return 0
