"""Table 2 of Klomp et al. 2023 from measured cells: cost on paper, published accuracy, measured time."""

from collections.abc import Sequence

from recalib.benchmark import published
from recalib.benchmark.advice import overhead_text
from recalib.report.rows import Cell, is_reference, median_text, module_title
from recalib.report.series import fastest_forms, is_distinguishable, setting_text

_HEADINGS = ("network", "module", "setting", "runtime", "parameters, M", "GMACs an image", "published top-1 / top-5, %",
             "source", "ms", "overhead")  # fmt: skip


def table2(cells: Sequence[Cell]) -> str:
    """A Markdown table, one row a network, module and setting.

    Accuracies are published, each beside its source: rows of different sources are not comparable. An overhead in
    brackets cannot be told from none.
    """
    inserted = {(c["model"], c["module"], str(c["size"]), c["batch"]): c for c in cells if not c["deployed"]}
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
    for cell in fastest_forms(cells):
        counted = inserted.get((cell["model"], cell["module"], str(cell["size"]), cell["batch"]), cell)
        words = [cell["model"], module_title(cell["module"]), setting_text(cell), cell["runtime"]]
        words += [_count(counted["params"], 1e6), _count(counted["macs"], 1e9 * cell["batch"])]
        words += [*_accuracy(cells, cell), median_text(cell), _overhead(cell)]
        lines.append("| " + " | ".join(word.replace("|", "/") for word in words) + " |")
    return "\n".join(lines) + "\n"


def _count(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def _accuracy(cells: Sequence[Cell], cell: Cell) -> tuple[str, str]:
    """Top-1 and top-5 from the one source that has most of the network's modules."""
    modules = dict.fromkeys(other["module"] for other in cells if other["model"] == cell["model"])
    source = published.best_source(cell["model"], modules) or published.ladder()
    known = published.accuracy(cell["model"], cell["module"], source)
    if known is None:
        return "", ""
    return f"{known.top1:.2f} / {'' if known.top5 is None else f'{known.top5:.2f}'}", source.label


def _overhead(cell: Cell) -> str:
    if not cell["overhead"]:
        return ""
    if is_reference(cell):
        return "reference"
    text = overhead_text(cell["overhead"])
    return text if is_distinguishable(cell) else f"({text})"
