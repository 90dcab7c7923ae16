"""A longer training that begins where a finished run ended."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from recalib.errors import RecalibError
from recalib.runs import environment, read_config, read_state, write_atomically, write_json
from recalib.runs.folder import CONFIG, STATE
from recalib.training.job import Job

J = TypeVar("J", bound=Job)
SAME = (
    "model",
    "attention",
    "options",
    "identity",
    "optimizer",
    "batch",
    "seed",
    "limit",
    "holdout",
    "repeat",
    "trained",
)


def longer(job: J, source: Path, *, resume: bool = False) -> J:
    """Make the folder of a run that goes on from another's end; the other stays as it is.

    Weights, averaged weights, the optimizer and the counters are taken over, and the learning rate is that of the new
    number of epochs: by a schedule that does not depend on it the result is that of one run of so many epochs.

    Args:
        job: the other's, with more epochs and, where wanted, other settings of the optimizer.
        source: the other's folder.
        resume: go on with the longer run where it was begun.

    Returns:
        The job under a name of its own; run it with ``resume``.

    Raises:
        RecalibError: where the other is not finished, the job is not longer or trains another network, or its folder is
            there already and ``resume`` is false.
    """
    before = type(job).from_config(read_config(source), source)
    state, epochs = read_state(source / STATE), job.recipe.epochs
    if state["step"] or state["epoch"] < before.recipe.epochs:
        raise RecalibError(f"{source} is not finished: go on with it by --config {source / CONFIG} --resume")
    if epochs <= before.recipe.epochs:
        raise RecalibError(f"{source} has {before.recipe.epochs} epochs: give more by --epochs, not {epochs}")
    others = [name for name in SAME if getattr(job.recipe, name) != getattr(before.recipe, name)]
    if others:
        raise RecalibError(f"{', '.join(others)}: a longer training has those of {source}")
    job = replace(job, name=job.name or f"{source.name}-to{epochs}")
    if (job.folder / STATE).exists():
        if not resume:
            raise RecalibError(f"{job.folder} holds a run already; add --resume to go on with it, or choose --name")
        return job
    job.folder.mkdir(parents=True, exist_ok=True)
    write_json(job.folder / "environment.json", {**environment(), "from": source.name})
    write_json(job.folder / CONFIG, job.resolved().config())
    for name in ("metrics.jsonl", STATE):  # the checkpoint last: with it there is a run to go on with
        write_atomically(job.folder / name, partial(shutil.copyfile, source / name))
    return job
