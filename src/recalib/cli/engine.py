"""``--engine ray``: what commands that run for long share to run on the nodes of a cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from recalib.errors import RecalibError
from recalib.runs.executor import Command, to_the_end

if TYPE_CHECKING:
    from recalib.runs.on_ray import OnRay

RESULT = "result.json"  # what --json asks for, in the folder that is brought home
FLAGS = ("--engine", "--address", "--gpus", "--on")


@dataclass(frozen=True)
class EngineArguments:
    """Where a command does its work."""

    engine: Literal["local", "ray"] = "local"
    """ray: on the nodes of a Ray cluster, which have recalib installed"""
    address: str | None = None
    """of the cluster: HOST:PORT or auto; by default RAY_ADDRESS, or one of this machine that ends with the command"""

    def cluster(self) -> "OnRay | None":
        """The cluster; None to work here.

        Raises:
            RecalibError: for a part of it that is given without ``--engine ray``, or where Ray is not installed.
            WorkFailed: where the cluster does not answer.
        """
        if self.engine == "local":
            for name, value in vars(self).items():
                if name != "engine" and value is not None:
                    raise RecalibError(f"--{name} {value}: is for nodes of a cluster; add --engine ray")
            return None
        from recalib.runs.on_ray import OnRay

        return OnRay(self.address)


@dataclass(frozen=True)
class TrainingEngine(EngineArguments):
    """Where trainings run."""

    gpus: float | None = None
    """cards of each run or worker on the cluster, or a part of one, such as 0.25; by default one, where it has any"""

    def cards(self, cluster: "OnRay") -> float:
        """Number of each."""
        if self.gpus is not None and self.gpus < 0:
            raise RecalibError(f"--gpus {self.gpus:g}: should be 0 or above")
        return float(cluster.gpus > 0) if self.gpus is None else self.gpus


@dataclass(frozen=True)
class MeasuringEngine(EngineArguments):
    """Where something is measured: alone on one node."""

    on: str | None = None
    """kind of the node that measures: gpu:h100, gpu, cpu, a label NAME=VALUE, or a resource's name"""


TRAINING = Annotated[TrainingEngine, arg(name="")]
MEASURING = Annotated[MeasuringEngine, arg(name="")]


def measured_away(
    engine: MeasuringEngine, command: str, argv: Sequence[str], out: Path, json: Path | None, *, resumes: bool
) -> int | None:
    """Run a command that measures on a node of the kind asked for, which does nothing else meanwhile.

    Its folder is brought along and home as it grows: a node that is lost costs what it was measuring just then.

    Args:
        engine: where.
        command: its name.
        argv: what followed it.
        out: its folder.
        json: where its ``--json`` goes.
        resumes: whether it has ``--resume``, without which it begins anew.

    Returns:
        Its exit status; None where it is to be run here.
    """
    cluster = engine.cluster()
    if cluster is None:
        return None
    words = [command, *without(argv, (*FLAGS, "--out", "--json")), "--out", "{out}"]
    words += ["--json", f"{{out}}/{RESULT}"] if json else []
    again = [word for word in words if word not in ("--overwrite", "--resume")] + ["--resume"] if resumes else words
    asked = Command(tuple(words), name=f"recalib {command}", on=engine.on, alone=True, folder=out)
    status = to_the_end(cluster, asked, Command(**{**vars(asked), "arguments": tuple(again)}))
    if json and (out / RESULT).exists():
        json.parent.mkdir(parents=True, exist_ok=True)
        (out / RESULT).replace(json)
    return status


def without(argv: Sequence[str], flags: Iterable[str]) -> list[str]:
    """A command's words without some flags and the one value that each of them takes."""
    left, names, skip = [], tuple(flags), False
    for word in argv:
        if skip:
            skip = False
        elif word in names:
            skip = True
        elif not word.startswith(tuple(f"{name}=" for name in names)):
            left.append(word)
    return left
