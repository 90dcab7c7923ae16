"""A sweep whose workers are on a cluster: started there, replaced where their node is lost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import environment, stop_on_signals, write_json
from recalib.runs.executor import LOSSES, Command, Executor, Running, end, pause
from recalib.study.sweep import Sweep, summary
from recalib.study.sweep_journal import Journal, begun

Say = Callable[[str], object]


def sweep_on(
    executor: Executor, asked: Sweep, worker: Command, count: int, *, join: bool = False, say: Say = print
) -> dict[str, Any]:
    """Have a sweep run by workers on a cluster; they share its folder, which all nodes see.

    The study is theirs, in the folder: this program only starts them, so it may be killed and started again with
    ``join``, and a trial whose node is lost goes on from its checkpoint on another.

    Args:
        executor: the cluster.
        asked: the sweep.
        worker: the command that works at it, and what it takes of a node.
        count: of workers.
        join: go on with a study that is there.
        say: takes lines for the user.

    Returns:
        The same as `recalib.study.sweep.sweep`.

    Raises:
        RecalibError: for a study that is there already, or is another.
        WorkFailed: where a worker fails, with what it said last; trials that have ended are kept.
    """
    if not join and begun(asked.out):
        raise RecalibError(f"{asked.out} holds a sweep already; add --join to go on with it or work beside it")
    asked.out.mkdir(parents=True, exist_ok=True)
    losses, over = 0, False
    with stop_on_signals() as stop:
        running = [_started(executor, worker, asked.out, i) for i in range(count)]
        while not over and not stop:
            for i, one in enumerate(running):
                status = one.poll()
                if status:
                    end(running)
                    raise _failure(status, worker, asked.out, i)
                if status == 0 and all(a.past.end for a in _journal(asked).attempts()):
                    over = True
                elif status == 0 or one.lost:
                    losses += 1
                    say(f"the node of worker {i + 1} is lost: another one takes its place")
                    if losses > LOSSES:
                        end(running)
                        raise WorkFailed(f"{losses} nodes were lost; the same command with --join goes on")
                    running[i] = _started(executor, worker, asked.out, i)
            pause()
        end(running)
    stopped = None if over else "stopped; the same command with --join goes on"
    attempts = _journal(asked).attempts() if begun(asked.out) else []
    results = summary(asked, attempts) | {"stopped": stopped, "environment": environment()}
    write_json(asked.out / "sweep.json", results)
    return results


def _started(executor: Executor, worker: Command, out: Path, place: int) -> Running:
    return executor.start(replace(worker, name=f"worker {place + 1}", log=_log(out, place)))


def _log(out: Path, place: int) -> Path:
    return out / f"worker{place + 1}.txt"


def _journal(asked: Sweep) -> Journal:
    return Journal(asked.out, asked.settings(), [metric.goal for metric in asked.space.metrics], join=True)


def _failure(status: int, worker: Command, out: Path, place: int) -> RecalibError:
    """Last words of a worker, as its own error."""
    lines = [line for line in _log(out, place).read_text().splitlines() if line.strip()]
    said = lines[-1].removeprefix("recalib sweep: ").removeprefix("recalib: ") if lines else f"status {status}"
    return (RecalibError if status == 2 else WorkFailed)(said)
