"""Keep a study without its weights, and write its table where documents have the marks for it.

    python examples/keep_study.py STUDY results/study/cifar10 README.md docs/study.md

Finished runs are kept as config.json, environment.json, facts.json and metrics.jsonl, from which the same command
reports again; runs that did not come to their end are left out. The table, and a sentence for each network, replace
what stands between the lines ``<!-- study -->`` and ``<!-- end of study -->``.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from recalib.report.study import markdown, notes_of, study_page
from recalib.training.table import is_finished

KEPT = ("config.json", "environment.json", "facts.json", "metrics.jsonl")
MARKED = re.compile(r"(?<=<!-- study -->\n).*?(?=<!-- end of study -->)", re.S)


@dataclass(frozen=True)
class Arguments:
    """From a study's folder to what is kept of it."""

    study: Positional[Path]
    """folder that recalib study wrote"""
    to: Positional[Path]
    """folder for what is kept"""
    documents: Positional[tuple[Path, ...]] = ()
    """with the marks, to be rewritten"""


def keep(study: Path, to: Path) -> list[str]:
    """Copy results, times and finished runs; names of those that were left out."""
    to.mkdir(parents=True, exist_ok=True)
    for name in ("study.json", "times.json"):
        if (study / name).is_file():
            shutil.copyfile(study / name, to / name)
    left_out = []
    for run in sorted(file.parent for file in study.glob("*/config.json")):
        if not is_finished(run):
            left_out.append(run.name)
            continue
        (to / run.name).mkdir(exist_ok=True)
        for name in KEPT:
            if (run / name).is_file():
                shutil.copyfile(run / name, to / run.name / name)
    return left_out


def table(study: Path) -> str:
    """The table of a study, and what follows from it, in Markdown."""
    results = json.loads((study / "study.json").read_text())
    lines = [f"* {line}" for line in (*results["sentences"], *notes_of(results))]
    return "\n".join(["", markdown(results), "", *lines, "", ""])


def main() -> None:
    """Keep, draw, and write the tables."""
    args = tyro.cli(Arguments, description=__doc__)
    left_out = keep(args.study, args.to)
    results = json.loads((args.to / "study.json").read_text())
    page = study_page(results, f"python examples/keep_study.py STUDY {args.to}")
    (args.to / "study.html").write_text(page, encoding="utf-8")
    for document in args.documents:
        text = document.read_text(encoding="utf-8")
        if not MARKED.search(text):
            raise SystemExit(f"{document} has no lines <!-- study --> and <!-- end of study -->")
        document.write_text(MARKED.sub(lambda _: table(args.to), text), encoding="utf-8")
    print(f"{args.to / 'study.html'}; left out, not at their end: {', '.join(left_out) or 'none'}")


if __name__ == "__main__":
    main()
