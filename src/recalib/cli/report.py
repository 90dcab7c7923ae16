"""`recalib report`: figures and one interactive page of anything measured or trained."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recalib.choose.advice import advise
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.store import Results, read_results
from recalib.report import write_page
from recalib.report.figures import draw_figure
from recalib.report.page import main_setting
from recalib.report.picture import write_picture
from recalib.report.rows import SETTING
from recalib.report.sweep import show_sweep, sweep_page
from recalib.report.table2 import table2
from recalib.runs.environment import without_place

SWEEP = "sweep.json"  # what recalib sweep leaves in its folder
STUDY = "study.json"  # and recalib study


@dataclass
class Arguments:
    """Draw what was measured, or tabulate what was trained.

    What comes of what:
      files of compare, latency, bench   the page, or a figure of the paper
      the folder of a study              its table and sentences; *.html: the page
      the folder of a sweep              its trials; *.html: curves, importances
      folders of runs                    accuracies over seeds; *.html: curves

    Examples:
      recalib report recalib-compare --out report.html
      recalib report recalib-compare/compare.jsonl --figure 5 --out fig5.svg
      recalib report runs/* --out runs.html
    """

    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN_OR_RESULTS")]
    """files or folders of recalib compare or latency, or run folders of recalib train"""
    figure: str | None = None
    """2, 3, 4, 5, 6 or table2; by default the page with all"""
    out: Path | None = None
    """report.html, or for a figure *.svg or *.png, and for tables *.md; runs are tabulated on the terminal too"""
    runtime: str | None = None
    """only this runtime's panels"""
    precision: str | None = None
    """only this precision's"""
    size: Annotated[str | None, arg(metavar="SIDE|HxW")] = None
    """only this size's, such as 224 or 320x192"""
    batch: str | None = None
    """only this batch's"""
    model: str | None = None
    """only this network's"""
    protocol: str | None = None
    """only this protocol's, clean or paper"""
    machine: str | None = None
    """only this machine's, by its name on the page"""
    code: str | None = None
    """only this version's of the code, by its name on the page"""
    json: Path | None = None
    """file for the cells, or the table's rows"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib report")
    if not args.results:
        raise RecalibError("nothing to report; name files of recalib compare or latency, or run folders")
    command = shlex.join(["recalib", "report", *map(without_place, argv)])
    for name, report in ((SWEEP, _sweep), (STUDY, _study)):  # whose folders hold runs, too
        if len(args.results) == 1 and (args.results[0] / name).is_file():
            report(args, command)
            return 0
    runs = [run for path in args.results for run in _run_folders(path)]
    if runs and all(_run_folders(path) for path in args.results):
        _runs(args, list(dict.fromkeys(runs)), command)
        return 0
    results = read_results(args.results)
    write_json(args.json, {"machines": results.machines, "cells": [cell.to_dict() for cell in results.cells]})
    if args.figure is None:
        _page(args, results, command)
    elif args.figure == "table2":
        _text(table2(results.cells), args.out)
    else:
        _figure(args, args.figure, results)
    return 0


def _run_folders(path: Path) -> list[Path]:
    """A run's folder itself, or those in a folder of runs."""
    if (path / "config.json").is_file():
        return [path]
    return sorted(file.parent for file in path.glob("*/config.json"))


def _runs(args: Arguments, runs: list[Path], command: str) -> None:
    from recalib.report.trained import show_trained, trained_page  # with Lightning Fabric, which figures do without
    from recalib.training.table import as_json, is_finished, markdown, table

    finished = [path for path in runs if is_finished(path)]
    left_out = [path.name for path in runs if path not in finished]
    if not finished:
        raise RecalibError(f"{', '.join(left_out)}: no run came to its end; `recalib train --resume` goes on with one")
    if left_out:
        print(f"left out, for they did not come to their end: {', '.join(left_out)}", file=sys.stderr)
    rows = table(finished)
    write_json(args.json, as_json(rows))
    if args.out is None:
        show_trained(rows)
    elif args.out.suffix == ".html":
        _text(trained_page(rows, left_out, command), args.out)
    else:
        _text(markdown(rows) + "\n", args.out)


def _study(args: Arguments, command: str) -> None:
    from recalib.report.study import markdown, show_study, study_page

    results = json.loads((args.results[0] / STUDY).read_text())
    write_json(args.json, results)
    if args.out is None:
        show_study(results)
    else:
        _text(study_page(results, command) if args.out.suffix == ".html" else markdown(results) + "\n", args.out)


def _sweep(args: Arguments, command: str) -> None:
    results = json.loads((args.results[0] / SWEEP).read_text())
    if results["best"] is None:
        raise RecalibError(f"{args.results[0]}: no trial is complete yet; `recalib sweep --join` goes on with it")
    write_json(args.json, results)
    if args.out is None:
        show_sweep(results)
    else:
        _text(sweep_page(results, command), args.out)


def _page(args: Arguments, results: Results, command: str) -> None:
    out = args.out or Path("report.html")
    if out.suffix != ".html":
        raise RecalibError(f"{out}: the page is written as *.html; a single figure takes --figure")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(out, results.cells, results.machine, advise(main_setting(results.cells)), command)
    print(out)


def _figure(args: Arguments, name: str, results: Results) -> None:
    out = args.out or Path(f"figure{name}.svg")
    renamed = {"network": "model", "resolution": "size"}
    chosen = {key: getattr(args, renamed.get(key, key)) for key in ("network", "runtime", *SETTING)}
    write_picture(out, draw_figure(name, results.cells, {key: value for key, value in chosen.items() if value}))
    print(out)


def _text(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkFailed(f"cannot write {str(out)!r}: {error.strerror}") from None
    print(out)
