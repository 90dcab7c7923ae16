"""The training commands of all tasks: jobs from arguments, modules and seeds, and the lines at the end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cli.spelling import modern
from recalib.errors import RecalibError, unknown
from recalib.report.trained import show_trained
from recalib.runs import environment, read_config
from recalib.training.job import Job
from recalib.training.lifecycle import Outcome, run
from recalib.training.longer import longer
from recalib.training.recipe import Recipe
from recalib.training.repeat import run_jobs, with_modules, with_seeds
from recalib.training.table import as_json, finished_runs, table

NONE = "none"
PLAIN = (NONE, "baseline")  # the network without attention; the second is an older word


@dataclass(frozen=True)
class TrainingCommand:
    """A training command.

    Attributes:
        kind: class of its jobs.
        recipes: by name.
        example: and what it does.
    """

    kind: type[Job]
    recipes: Mapping[str, Recipe]
    example: str

    def main(self, argv: list[str]) -> int:
        """Run the command; returns its exit status."""
        modules, argv = modules_in(modern(argv, self.kind.command), self.recipes)
        job, source, rest = self._starting_job(argv)
        arguments = _arguments(self.kind)
        words = f"recalib {self.kind.command} RECIPE|--config FILE|--from RUN"
        given = parse(
            arguments, rest, words, description=self.example + ", ".join(self.recipes),
            default=arguments(job), config=(tyro.conf.OmitArgPrefixes,),
        )  # fmt: skip
        if len(modules) > 1 or given.seeds > 1:
            if source is not None:
                raise RecalibError("--from goes on with one run: it takes neither several modules nor --seeds")
            write_json(given.json, _several(given, modules))
            return 0
        resume, job = given.resume, given.job
        if source is not None:
            job, resume = longer(job, source, resume=resume), True
        outcome = run(job, resume=resume)
        if outcome.first:
            write_json(given.json, report(outcome))
        return 0

    def _starting_job(self, argv: list[str]) -> tuple[Job, Path | None, list[str]]:
        """The job that the arguments name, the run it goes on from where that is another, and the other arguments."""
        flag = next((word for word in argv if word in ("--config", "--from")), None)
        if flag is not None:
            at = argv.index(flag)
            if len(argv) < at + 2:
                wanted = "config.json" if flag == "--config" else "folder"
                raise RecalibError(f"{flag}: should be followed by a run's {wanted}")
            file, rest = Path(argv[at + 1]), argv[:at] + argv[at + 2 :]
            job = self.kind.from_config(read_config(file), file)
            if flag == "--from":
                return replace(job, name=None), file, rest
            begun = file.name == "config.json" and (file.parent / "last.pt").exists() and "--resume" in argv
            return replace(job, out=file.parent.parent, name=file.parent.name) if begun else job, None, rest
        name, rest = recipe_in(argv, self.kind, self.recipes)
        if name is not None:
            return self.kind(recipe=self.recipes[name], preset=name), None, rest
        if "--help" in argv or "-h" in argv:
            return self.kind(), None, argv
        raise RecalibError(f"which recipe? There are {', '.join(self.recipes)}; or --config FILE")


def _arguments(kind: type[Job]) -> Any:
    """Flags of a command whose jobs are of a kind."""

    @dataclass(frozen=True)
    class Arguments:
        """Flags beside the job's own.

        Attributes:
            job: recipe, data and folder.
            resume: go on from the run's last checkpoint, where it has one.
            seeds: train with so many seeds, counted from the recipe's, and make a table of mean and deviation.
            jobs: runs side by side; by default one, and on a GPU as many as its memory holds.
            json: write the result here.
        """

        job: Annotated[kind, tyro.conf.arg(name="")]  # type: ignore[valid-type]
        resume: bool = False
        seeds: int = 1
        jobs: int | None = None
        json: Path | None = None

    return Arguments


def recipe_in(argv: list[str], kind: type[Job], recipes: Mapping[str, Recipe]) -> tuple[str | None, list[str]]:
    """The recipe among the arguments, wherever it stands, and the others.

    Args:
        argv: arguments.
        kind: class of jobs, whose switches take no value.
        recipes: by name.

    Raises:
        RecalibError: for a word that is neither a recipe nor an option's.
    """
    hints = get_type_hints(kind)
    switches = {name for each in (kind, hints["recipe"]) for name, hint in get_type_hints(each).items() if hint is bool}
    switches |= {"resume", "help"}
    for i, word in enumerate(argv):
        before = argv[i - 1] if i else ""
        name = before.removeprefix("--").removeprefix("no-").replace("-", "_")
        option = before.startswith("--") and "=" not in before
        if word in recipes and not (option and name not in switches):
            return word, argv[:i] + argv[i + 1 :]
        if not word.startswith("-") and (i == 0 or (option and name in switches)):
            raise unknown("recipe", word, recipes)
    return None, argv


def modules_in(argv: list[str], recipes: Collection[str]) -> tuple[list[str], list[str]]:
    """The modules after ``--attention``, and the arguments with the first real one of them."""
    if "--attention" not in argv:
        return [], argv
    first = argv.index("--attention") + 1
    last = next((i for i in range(first, len(argv)) if argv[i].startswith("--") or argv[i] in recipes), len(argv))
    modules, rest = argv[first:last], argv[: first - 1] + argv[last:]
    real = [module for module in modules if module not in PLAIN]
    return modules, [*rest, "--attention", real[0]] if real else [*rest, "--attention", "None"] if modules else argv


def _several(given: Any, modules: Sequence[str]) -> dict[str, object]:
    """Train with many modules and seeds; print and return the table of all runs of this recipe in the same folder."""
    jobs = with_seeds(with_modules(given.job.resolved(), [None if m in PLAIN else m for m in modules]), given.seeds)
    run_jobs(jobs, given.jobs, resume=given.resume)
    folders = [job.folder for job in jobs]
    rows = table(finished_runs(given.job.out, folders[0]))
    show_trained(rows)
    return {"runs": [str(folder) for folder in folders], "table": as_json(rows), "environment": environment()}


def report(outcome: Outcome) -> dict[str, object]:
    """Say how a run ended; its metrics for ``--json``."""
    if outcome.stopped:
        print(outcome.stopped)
    told = {"run": str(outcome.folder), "stopped": outcome.stopped, **outcome.metrics}
    return {**told, "environment": environment()}
