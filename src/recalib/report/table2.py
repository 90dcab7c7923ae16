"""Table 2 of Klomp et al. 2023 from measured cells: cost on paper, published accuracy, measured time."""

from collections.abc import Sequence
from dataclasses import dataclass

from recalib.choose import published
from recalib.choose.advice import overhead_text
from recalib.measure.cells import Cell, fastest_forms
from recalib.report.rows import (
    facets_of,
    facets_text,
    is_like_plain,
    is_reference,
    median_text,
    module_title,
    setting_of,
    setting_text,
    varying,
)

HEADINGS = ("network", "module", "setting", "runtime", "parameters, M", "GMACs an image", "published top-1 / top-5, %",
            "source", "ms", "overhead")  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One network, module, runtime and setting.

    Attributes:
        words: below `HEADINGS`.
        facets: what a reader can choose by.
        like_plain: whether its overhead cannot be told from none.
    """

    words: list[str]
    facets: dict[str, str]
    like_plain: bool


def table2(cells: Sequence[Cell]) -> str:
    """A Markdown table, one row a network, module, runtime and setting.

    Accuracies are published, each beside its source: rows of different sources are not comparable. An overhead in
    brackets cannot be told from none.
    """
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    for line in table2_rows(cells):
        *words, overhead = line.words
        lines.append([word.replace("|", "/") for word in (*words, f"({overhead})" if line.like_plain else overhead)])
    return "".join("| " + " | ".join(words) + " |\n" for words in lines)


def table2_rows(cells: Sequence[Cell]) -> list[Line]:
    """The rows of `table2`: costs are those of the network as inserted, times those of its fastest form."""
    inserted = {(c.model, c.module, str(c.size), c.batch): c for c in cells if not c.deployed}
    lines, vary = [], [name for name in varying(cells) if name in ("protocol", "machine", "code")]
    for cell in fastest_forms(cells):
        counted = inserted.get((cell.model, cell.module, str(cell.size), cell.batch), cell)
        own = facets_text({name: setting_of(cell)[name] for name in vary})
        setting = ", ".join(filter(None, (setting_text(cell), own)))
        words = [cell.model, module_title(cell.module), setting, cell.runtime]
        words += [_count(counted.params, 1e6), _count(counted.macs, 1e9 * cell.batch)]
        words += [*_accuracy(cells, cell), median_text(cell), _overhead(cell)]
        lines.append(Line(words, facets_of(cell), is_like_plain(cell)))
    return lines


def _count(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def _accuracy(cells: Sequence[Cell], cell: Cell) -> tuple[str, str]:
    """Top-1 and top-5 from the one source that has most of the network's modules."""
    modules = dict.fromkeys(other.module for other in cells if other.model == cell.model)
    source = published.best_source(cell.model, modules) or published.ladder()
    known = published.accuracy(cell.model, cell.module, source)
    if known is None:
        return "", ""
    return f"{known.top1:.2f} / {'' if known.top5 is None else f'{known.top5:.2f}'}", source.label


def _overhead(cell: Cell) -> str:
    if not cell.overhead:
        return ""
    return "reference" if is_reference(cell) else overhead_text(cell.overhead)
