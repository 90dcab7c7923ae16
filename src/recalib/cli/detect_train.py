"""``recalib detect train``: a detector by a recipe, into a run folder that can be resumed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.detection.job import DetectionJob
from recalib.detection.recipes import RECIPES, recipe
from recalib.errors import RecalibError
from recalib.runs import read_config
from recalib.training.lifecycle import run

EXAMPLE = """Train a detector by a recipe; every field of the recipe is a flag.

  recalib detect train coco-1x --data COCO --weights eca_resnet50.safetensors --attention eca
  recalib detect train scratchdet-bdd --data BDD --train-domain timeofday=daytime --eval-domain timeofday=night
  recalib detect train --config runs/NAME/config.json --resume

Recipes: """


@dataclass(frozen=True)
class Arguments:
    """What may stand beside the job's own flags.

    Attributes:
        job: recipe, data and folder.
        resume: go on from the run's last checkpoint, where it has one.
        json: write the result here.
    """

    job: Annotated[DetectionJob, tyro.conf.arg(name="")]
    resume: bool = False
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    job, rest = _starting_job(argv)
    arguments = parse(
        Arguments,
        rest,
        "recalib detect train RECIPE|--config FILE",
        description=EXAMPLE + ", ".join(RECIPES),
        default=Arguments(job),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    outcome = run(arguments.job, resume=arguments.resume)
    if outcome.first:
        if outcome.stopped:
            print(outcome.stopped)
        write_json(arguments.json, {"run": str(outcome.folder), "stopped": outcome.stopped, **outcome.metrics})
    return 0


def _starting_job(argv: list[str]) -> tuple[DetectionJob, list[str]]:
    """The job that the first arguments name, ``RECIPE`` or ``--config FILE``, and the arguments after them."""
    if argv[:1] == ["--config"]:
        if len(argv) < 2:
            raise RecalibError("--config: should be followed by a run's config.json")
        return DetectionJob.from_config(read_config(Path(argv[1])), Path(argv[1])), argv[2:]
    if argv and not argv[0].startswith("-"):
        return DetectionJob(recipe=recipe(argv[0]), preset=argv[0]), argv[1:]
    if "--help" in argv or "-h" in argv:
        return DetectionJob(), argv
    raise RecalibError(f"which recipe? There are {', '.join(RECIPES)}; or --config FILE")
