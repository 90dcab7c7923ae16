"""`recalib bench`: what the fused operation reaches on this machine.

Runs with torch, torchvision, timm and numpy alone, as GPU machines often have them: argparse, and tables as text.
"""

import argparse
import functools
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from recalib.cli.json_file import write_json
from recalib.cli.spelling import modern
from recalib.errors import RecalibError, unknown
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.kernels import TimedPass, kernels_to_file
from recalib.measure.run import run
from recalib.measure.session import How
from recalib.measure.targets import MODULES, TARGETS, Target, allowed, bench, chosen, not_here, verdict
from recalib.runs.environment import without_place
from recalib.runtimes.machine import best_device
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL

_EXAMPLES = """\
examples:
  recalib bench --list                                   what would be measured, and how long it takes
  recalib bench --kernels                                bandwidth of every pass against a copy
  recalib bench --targets T4a --model resnet50 --batch 1 --resume
  recalib bench --gpu-day --stages A --minutes 4 --out results/gpu
  python -m recalib bench                                all of it, from a source tree: PYTHONPATH=src
"""


def main(argv: list[str]) -> int:
    """Run `recalib bench`; returns the exit status."""
    started = time.monotonic()
    parser = _parser()
    args, others = parser.parse_known_args(modern(argv, "bench"))
    if others:
        raise unknown("option", others[0], [name for action in parser._actions for name in action.option_strings])
    if args.rounds is not None and args.rounds < FEWEST_FOR_AN_INTERVAL:
        raise RecalibError(f"rounds={args.rounds}: at least {FEWEST_FOR_AN_INTERVAL}")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.gpu_day:
        return _gpu_day(args, started)
    only_kernels = args.kernels and not (args.targets or args.networks)
    targets = [] if only_kernels else chosen(args.targets, args.model, args.runtime, args.batch)
    device, how = best_device(), How(rounds=args.rounds, threads=args.threads)
    here = [setting for target in targets if not not_here(target, device) for setting in target.settings]
    _plan(targets, args.attention, how)
    if args.list:
        return 0
    typed = shlex.join(["recalib", "bench", *map(without_place, argv)])
    results: dict[str, Any] = {"kernels": [], "cells": []}
    if args.kernels or not (args.targets or args.networks):
        kernels = kernels_to_file(args.out / "kernels.jsonl", device, typed, rounds=args.rounds)
        results["kernels"] = [kernel.to_dict() for kernel in kernels]
        print(_kernel_table(kernels))
    if here:
        found = run(
            bench(list(dict.fromkeys(here)), args.attention, how), args.out / "networks.jsonl", command=typed,
            resume=args.resume, overwrite=args.overwrite, progress=_progress,
            stored=lambda cells: print("\n" + _network_table(cells), flush=True),
        )  # fmt: skip
        results |= {"machine": found.machine, "run": found.run, "cells": [cell.to_dict() for cell in found.cells]}
    write_json(args.json, results)
    return int(bool(results["cells"]) and all(cell["status"] != "ok" for cell in results["cells"]))


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        _, strange, options = message.partition("unrecognized arguments: ")
        if strange:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            raise unknown("option", options.split()[0], flags)
        raise RecalibError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "recalib bench",
        description="Measure the fused operation: every pass against a copy, and whole networks against the targets "
        "T1 to T6. Everything is measured unless something is named.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--kernels", action=switch, default=False, help="the passes over the activation")
    add("--networks", action=switch, default=False, help="whole networks, all targets")
    add("--targets", nargs="+", default=[], metavar="T", help=f"of {', '.join(TARGETS)}; T4 is both its parts")
    add("--model", nargs="+", default=[], metavar="NAME", help="only these networks of the targets")
    add("--runtime", nargs="+", default=[], metavar="NAME", help="only these runtimes of the targets")
    add("--batch", nargs="+", default=[], type=int, metavar="N", help="only these batch sizes of the targets")
    add("--attention", nargs="+", default=list(MODULES), metavar="NAME", help=f"by default {' '.join(MODULES)}")
    add("--rounds", type=int, help="samples a cell; by default 10 to 100, as fit into a time budget")
    add("--threads", type=int, help="CPU threads; by default PyTorch's choice")
    add("--out", type=Path, default=Path("recalib-bench"), help="folder for the raw samples (default: %(default)s)")
    add("--resume", action=switch, default=False, help="keep what an earlier run in OUT has finished")
    day = parser.add_argument_group("a rented GPU", "stages within a time, each a process of its own")
    day.add_argument("--gpu-day", action=switch, default=False, help="T1 to T3, T5, T6 and kernels in eleven minutes")
    day.add_argument("--minutes", type=float, default=15, metavar="M", help="for everything (default: %(default)s)")
    day.add_argument("--stages", nargs="+", default=[], metavar="S", help="by name, or A or B; --list shows them")
    day.add_argument("--rehearse", action=switch, default=False, help="tiny sizes, on whatever machine this is")
    add("--overwrite", action=switch, default=False, help="forget what is in OUT")
    add("--json", type=Path, metavar="FILE", help="results of this run as one JSON object")
    add("--list", action=switch, default=False, help="say what would be measured, and stop")
    return parser


def _gpu_day(args: argparse.Namespace, started: float) -> int:
    """Stages on a GPU that this process itself never touches."""
    from recalib.measure import gpu_day, gpu_stages

    stages = gpu_day.chosen(gpu_stages.stages(gpu_stages.TINY if args.rehearse else gpu_stages.Sizes()), args.stages)
    if args.list:
        for stage in stages:
            print(f"{stage.part}  {stage.name:12} {stage.seconds:4.0f} s  {stage.what}")
        return 0
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asks the driver's library, not the device
    if not (args.rehearse or torch.cuda.is_available()):
        raise RecalibError("--gpu-day needs an NVIDIA GPU; --rehearse runs its stages in tiny sizes on this machine")
    done = gpu_day.run(
        stages, args.minutes, args.out, gpu_stages.summary, functools.partial(print, flush=True), started
    )
    return int(not done)


def _plan(targets: Sequence[Target], modules: Sequence[str], how: How) -> None:
    device = best_device()
    for target in targets:
        reason = not_here(target, device)
        if reason is None and target.settings:
            seconds = sum(group.seconds(how) for group in bench(target.settings, modules, how).groups)
            took = f"about {max(seconds / 60, 1):.0f} min on two cores" if device.type == "cpu" else "some minutes each"
            reason = f"{len(target.settings)} groups, {took}"
        print(f"{target.name:4} {target.claim}: {reason or 'measured by recalib train'}")


def _kernel_table(kernels: Sequence[TimedPass]) -> str:
    first = kernels[0]
    title = f"passes over a map {list(first.shape)}, {first.dtype}, against a copy of the same map"
    rows = [
        (k.layout, k.name, f"{sorted(k.ms)[len(k.ms) // 2]:.3f}", f"{k.gb_per_s:.0f}", _interval(k.share, 0))
        for k in kernels
    ]
    return f"\n{title}\n" + _table(("layout", "pass", "ms", "GB/s", "of the copy's bandwidth"), rows)


def _network_table(cells: Sequence[Cell]) -> str:
    first = cells[0]
    title = f"{first.model}, {first.runtime.partition(',')[0]}, batch {first.batch}, {first.precision}"
    return f"{title}\n" + _table(
        ("module", "form", "ms", "over the plain network", "allowed", ""), [_row(cell, cells) for cell in cells]
    )


def _row(cell: Cell, cells: Sequence[Cell]) -> tuple[str, ...]:
    if cell.runtime == cells[0].runtime and all(c.runtime == cell.runtime for c in cells):
        form = "deployed" if cell.deployed else "as inserted"
    else:
        form = cell.runtime + (", fused tails" if cell.deployed else "")
    if cell.latency_ms is None or cell.overhead is None:
        return cell.module, form, "", f"{cell.status}: {cell.message}", "", ""
    limit = allowed(cell, cells)
    over = cell.overhead
    ratio = {"ratio": over.ratio - 1, "low": over.low - 1, "high": over.high - 1}
    return (
        cell.module if cell.module != BASELINE else "plain",
        form,
        f"{cell.latency_ms.median:.2f}",
        _interval(ratio, 1),
        "" if limit is None else f"{100 * (limit - 1):.1f} %",
        f"{verdict(cell, cells):6}  {cell.message}",
    )


def _interval(share: dict[str, float], digits: int) -> str:
    ratio, low, high = (f"{100 * share[key]:.{digits}f}" for key in ("ratio", "low", "high"))
    return f"{ratio} % ({low} to {high})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )


def _progress(what: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}: {done} of {of}", end="", file=sys.stderr, flush=True)
