"""Accuracy and time of the same file, a row each: for a terminal and for the page."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from recalib.choose.accuracy import evaluated
from recalib.measure.cells import Cell
from recalib.report.rows import (
    SETTING,
    facets_of,
    facets_text,
    is_like_plain,
    median_text,
    module_title,
    overhead_cell,
    setting_of,
    varying,
)

COUNTED = ("ms", "overhead, %", "top-1, %", "over float32, points", "p")
CAPTION = (
    "top-1 of the very file that was timed, with its 95 % interval; points over the same network in PyTorch and "
    "float32, and how many images only the one and only the other classifies rightly; p: McNemar's test. "
)


class FileLine(NamedTuple):
    """One file.

    Attributes:
        named: network, runtime, precision, what else varies, module and form.
        counted: below `COUNTED`.
        sort: by which each of `counted` is sorted.
        facets: what a reader can choose by.
        same: whether it cannot be told from float32.
        like_plain: whether its overhead cannot be told from none.
    """

    named: list[str]
    counted: list[str]
    sort: list[Any]
    facets: dict[str, str]
    same: bool
    like_plain: bool


def headings(cells: Sequence[Cell]) -> list[str]:
    """Columns that name a file."""
    return ["network", "runtime", "precision", *_others(cells), "module", "form"]


def lines(cells: Sequence[Cell]) -> list[FileLine]:
    """The files that were evaluated; none where no labelled images were given."""
    found = []
    for one in evaluated(cells):
        cell, setting = one.cell, setting_of(one.cell)
        named = [cell.model, cell.runtime, cell.precision, *(setting[name] for name in _others(cells))]
        named += [module_title(cell.module), "deployed" if cell.deployed else "as inserted"]
        counted = [median_text(cell), overhead_cell(cell), one.top1, one.change, f"{one.found['p']:.2g}"]
        top1, fp32 = one.found["top1"], one.found["top1_fp32"]
        sort = [cell.figure_ms, cell.overhead.ratio if cell.overhead else "", top1, top1 - fp32, one.found["p"]]
        found.append(FileLine(named, counted, sort, facets_of(cell), not one.differs, is_like_plain(cell)))
    return found


def accuracy_table(cells: Sequence[Cell]) -> Table | None:
    """Lay the files that were evaluated out for a terminal of 80 columns; None where none was."""
    found = lines(cells)
    if not found:
        return None
    told = next(cell.accuracy for cell in cells if cell.accuracy) or {}
    table = Table(
        title=f"accuracy and time of the same file, on {told['images']} {told['source']}",
        caption=CAPTION + "~ and dim: cannot be told from float32",
        box=box.SIMPLE_HEAD, padding=0, show_edge=False,
    )  # fmt: skip
    for heading in ("network\nruntime", "module", "form"):
        table.add_column(heading, overflow="fold")
    for heading in ("ms", "top-1, %", "over float32,\npoints", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for _, group in groupby(found, key=lambda line: {**line.facets, "module": line.named[-2]}):
        pair = list(group)
        facets = pair[0].facets
        names = [facets["network"], facets_text({name: facets[name] for name in ("runtime", "precision")})]
        if size_or_batch := [name for name in _others(cells) if name in ("resolution", "batch")]:
            names[1] += f", {facets_text({name: facets[name] for name in size_or_batch})}"
        names = names if len(pair) > 1 else ["\n".join(names)]
        for line, name in zip(pair, names, strict=True):
            ms, _, top1, change, p = line.counted
            style = "dim" if line.same else ""
            judged = (Text(f"~{change}" if line.same else change, style), Text(p, style))
            texts = map(Text, (*line.named[-2:], ms, top1))
            table.add_row(Text(name, "bold"), *texts, *judged, end_section=line is pair[-1])
    return table


def _others(cells: Sequence[Cell]) -> list[str]:
    """The rest of the setting that differs from file to file."""
    judged = [cell for cell in cells if cell.accuracy]
    return [name for name in SETTING if name != "precision" and name in varying(judged)]
