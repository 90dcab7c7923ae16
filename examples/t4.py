"""The table of T4 in docs/performance.md from one file of `recalib latency`: overheads and the targets' verdicts.

recalib latency resnet50 resnet18 mobilenetv2_100 --size 224 --batch 1 8 --runtime openvino onnxruntime compile \
    --processes 3 --rounds 20 --out results/t4 --resume
python examples/t4.py results/t4
"""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import tyro
from tyro.conf import Positional

from recalib.choose.advice import overhead_text
from recalib.measure.cells import BASELINE, Cell, fastest
from recalib.measure.store import read_results
from recalib.measure.targets import allowed, verdict

MODULES = ("ab", "eca", "se", "srm", "multi_se", "gct")


@dataclass(frozen=True)
class Arguments:
    """What `recalib latency` wrote."""

    results: Positional[Path]


def row(cells: list[Cell]) -> str:
    """One network in one runtime at one batch: plain, and each module as inserted and deployed, with its verdict."""
    first, plain = cells[0], fastest(cell for cell in cells if cell.module == BASELINE)
    words = [first.runtime, first.model, str(first.batch), f"{plain.figure_ms:.1f}" if plain else ""]
    for module in MODULES:
        forms = {cell.deployed: cell for cell in cells if cell.module == module and cell.overhead}
        if len(forms) < 2:
            words.append("")
            continue
        before, after = (overhead_text(forms[form].over).replace(" %", "") for form in (False, True))
        limit, told = allowed(forms[True], cells), verdict(forms[True], cells)
        words.append(f"{before} → {after}, {told} {100 * (limit - 1):.1f}" if limit else f"{before} → {after}")
    return "| " + " | ".join(words) + " |"


def main() -> None:
    """Print the table in Markdown, its command and code version above it."""
    results = read_results([tyro.cli(Arguments, description=__doc__).results])
    for run in results.runs:
        print(f"`{run['command']}`, code {run['code']}")
    codes = {cell.code for cell in results.cells}
    if len(codes) > 1:
        raise SystemExit(f"the file holds cells of {len(codes)} versions of the code: {', '.join(sorted(codes))}")
    print("| runtime | network | batch | plain, ms | AB | ECA | SE | SRM | Multi-SE | GCT |")
    print("|---" * 10 + "|")
    cells = [cell for cell in results.cells if cell.size == 224]
    cells.sort(key=lambda cell: (cell.runtime, cell.model, cell.batch))
    for _, group in groupby(cells, key=lambda cell: (cell.runtime, cell.model, cell.batch)):
        print(row(list(group)))


if __name__ == "__main__":
    main()
