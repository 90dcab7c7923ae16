"""What is said of everything in results/, word for word: advice, recommendations, tables and the page's data.

A change that is meant is written by ``RECALIB_GOLDEN=write pytest tests/report/test_golden.py`` and listed in the
commit that makes it.
"""

import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from recalib.choose.advice import advise
from recalib.choose.budget import Budget
from recalib.choose.recommend import recommend
from recalib.choose.rules import runtimes
from recalib.choose.verdict import verdicts
from recalib.errors import WorkFailed
from recalib.measure.cells import BASELINE, fastest_forms
from recalib.measure.store import read_results
from recalib.report import terminal_table
from recalib.report.marks import marks
from recalib.report.page import main_setting
from recalib.report.rows import setting_of
from recalib.report.series import images, overheads, side
from recalib.report.table2 import table2
from recalib.report.tradeoff import depth_points, module_points

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
FOLDERS = (
    "bench", "compare", "compare_mobilenetv2", "compare_resnet18_mobilenetv2", "latency", "latency_again",
    "latency_compile",
)  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_said_of_a_result_does_not_change_unnoticed(folder):
    said, file = "\n".join(everything(read_results([ROOT / "results" / folder]).cells)) + "\n", GOLDEN / f"{folder}.txt"
    if os.environ.get("RECALIB_GOLDEN") == "write":
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


def everything(cells):
    """Every word and number that people are shown, in lines."""
    settings = {tuple(setting_of(cell).values()): [] for cell in cells}
    for cell in cells:
        settings[tuple(setting_of(cell).values())].append(cell)
    for setting, found in settings.items():
        yield f"# {' '.join(setting)}"
        yield from verdicts(found)
        yield from advise(found)
        for runtime in dict.fromkeys(cell.runtime for cell in found):
            yield from recommendations([cell for cell in found if cell.runtime == runtime])
        yield from tradeoffs(found)
    yield "# table"
    yield from printed(main_setting(cells))
    yield "# table 2"
    yield table2(cells)
    yield "# curves"
    yield from curves(cells)


def recommendations(cells):
    """What is recommended without a limit, and within the median of what was measured."""
    times = sorted(cell.latency_ms.median for cell in cells if cell.status == "ok")
    for limit in (None, times[len(times) // 2]) if times else ():
        try:
            yield from recommend(cells, Budget(latency=limit)).lines
        except WorkFailed as error:
            yield f"- {error}"


def tradeoffs(cells):
    look = marks([BASELINE, *dict.fromkeys(cell.module for cell in cells)])
    for model in dict.fromkeys(cell.model for cell in cells):
        for runtime in runtimes(cells, model):
            yield from map(point, module_points(cells, model, runtime, look))
    for runtime in dict.fromkeys(cell.runtime for cell in cells):
        yield from map(point, depth_points(cells, runtime, look))


def point(one):
    return f"{one.title} | {'faded' if one.faded else one.label}"


def printed(cells):
    console = Console(file=StringIO(), width=200)
    console.print(terminal_table(cells, {}, width=200))
    return (line.rstrip() for line in console.file.getvalue().splitlines())


def curves(cells):
    """Titles and places of the figures' points."""
    for along in (side, images):
        for model in dict.fromkeys(cell.model for cell in cells):
            for spot in overheads(fastest_forms(cells), model, along):
                yield f"{spot.x:g} {spot.y:.2f} {spot.low:.2f} {spot.high:.2f} {spot.title}"
