"""T4: the tables and verdicts of docs/performance.md, written from one file of `recalib latency` between its markers.

In this order, as time allows; each ends by itself, and what is killed goes on with the same line:

recalib latency resnet50 resnet18 --size 224 --batch 1 8 --runtime openvino onnxruntime --processes 3 --rounds 10 \
    --out results/t4 --resume
recalib latency mobilenetv2_100 --size 224 --batch 1 8 --runtime openvino onnxruntime --processes 3 --rounds 10 \
    --out results/t4 --resume
recalib latency resnet50 resnet18 mobilenetv2_100 --size 224 --batch 1 --runtime compile --attention ab eca se \
    --processes 3 --rounds 10 --out results/t4 --resume
python examples/t4.py results/t4

Which takes about 20, 7 and 15 minutes on two cores that do nothing else.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import tyro
from tyro.conf import Positional

from recalib.choose.advice import join_words, overhead_text
from recalib.measure.cells import BASELINE, Cell, fastest
from recalib.measure.store import Results, read_results
from recalib.measure.targets import TARGETS, allowed, verdict

ROOT = Path(__file__).parents[1]
TITLES = {"ab": "AB", "eca": "ECA", "se": "SE", "srm": "SRM", "multi_se": "Multi-SE", "gct": "GCT"}
RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "compile": "inductor"}
SIDE = 224
WORDS = ("met", "open", "missed")


@dataclass(frozen=True)
class Arguments:
    """What `recalib latency` wrote, and where its tables go."""

    results: Positional[Path]
    document: Path = ROOT / "docs" / "performance.md"


Group = tuple[tuple[str, str, int], list[Cell]]


def between(name: str, text: str, new: str) -> str:
    """A document with new text between the markers of a name.

    Raises:
        SystemExit: where the document has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"the document has no markers {begin} and {end}")
    return text.partition(begin)[0] + f"{begin}\n\n{new}\n{end}" + text.partition(end)[2]


def groups_of(results: Results) -> list[Group]:
    """The cells of each runtime, network and batch, in a reader's order.

    Raises:
        SystemExit: for cells of several versions of the code.
    """
    codes = {cell.code for cell in results.cells}
    if len(codes) > 1:
        raise SystemExit(f"the file holds cells of {len(codes)} versions of the code: {', '.join(sorted(codes))}")
    runtimes = list(RUNTIMES)
    models = list(dict.fromkeys(one.model for name in ("T4a", "T4b") for one in TARGETS[name].settings))
    cells = [c for c in results.cells if c.runtime in runtimes and c.model in models and c.size == SIDE]
    cells.sort(key=lambda cell: (runtimes.index(cell.runtime), models.index(cell.model), cell.batch))
    return [
        (key, list(group)) for key, group in groupby(cells, key=lambda cell: (cell.runtime, cell.model, cell.batch))
    ]


def written(results: Results) -> str:
    """Everything between the markers: how it was measured, tables by runtime, verdicts."""
    groups = groups_of(results)
    processes = {len(cell.processes) for _, cells in groups for cell in cells if cell.latency_ms}
    commands = dict.fromkeys(run["command"] for run in results.runs)
    about = (
        f"Code {results.cells[0].code or 'not recorded'}, {results.machine.get('device', 'a machine')}, "
        f"{results.machine.get('threads')} threads; {join_words(map(str, sorted(processes)))} processes a group, far "
        "apart in time. Overhead over the plain network in its fastest form, in percent, with its 95 % interval; after "
        "a slash the limit of T4, and the verdict by that interval."
    )
    lines = [*(f"    {command}" for command in commands), "", textwrap.fill(about, 120), ""]
    for runtime, of_runtime in groupby(groups, key=lambda one: one[0][0]):
        lines += table(RUNTIMES[runtime], list(of_runtime))
    return "\n".join([*lines, *verdicts(groups)]) + "\n"


def table(title: str, groups: Sequence[Group]) -> list[str]:
    """One runtime: a row as inserted and one deployed for every network and batch."""
    lines = [f"| {title}: network, batch | plain, ms | | {' | '.join(TITLES.values())} |", "|---" * 9 + "|"]
    for (_, model, batch), cells in groups:
        plain = fastest(cell for cell in cells if cell.module == BASELINE)
        time = f"{plain.figure_ms:.1f}" if plain else ""
        for deployed, form in ((False, "as inserted"), (True, "deployed")):
            words = [said(find(cells, module, deployed), cells) for module in TITLES]
            head = (f"{model}, {batch}", time) if not deployed else ("", "")
            lines.append(f"| {' | '.join([*head, form, *words])} |")
    return [*lines, ""]


def find(cells: Sequence[Cell], module: str, deployed: bool) -> Cell | None:
    """A module in one form, where it was measured."""
    return next((one for one in cells if (one.module, one.deployed) == (module, deployed) and one.overhead), None)


def said(cell: Cell | None, cells: Sequence[Cell]) -> str:
    """An overhead with its interval; of what has a target with its limit and verdict."""
    if cell is None:
        return ""
    limit, over = allowed(cell, cells), overhead_text(cell.over).replace(" %", "")
    return over if limit is None else f"{over} / {100 * (limit - 1):.1f} {verdict(cell, cells)}"


def verdicts(groups: Sequence[Group]) -> Iterator[str]:
    """A line for each network of each target: who meets it, who misses it, and where the intervals do not tell."""
    for (runtime, model, batch), cells in groups:
        told: dict[str, list[str]] = {word: [] for word in WORDS}
        for module, title in TITLES.items():
            cell = find(cells, module, True)
            if cell is not None and (word := verdict(cell, cells)):
                told[word].append(title)
        found = "; ".join(f"{word}: {join_words(names)}" for word, names in told.items() if names)
        target = "T4a" if runtime == "openvino" else "T4b"
        yield f"* **{target}**, {RUNTIMES[runtime]}, {model}, batch {batch}: {found or 'not measured'}."


def main() -> None:
    """Write the document, and print what was written."""
    given = tyro.cli(Arguments, description=__doc__)
    new = written(read_results([given.results]))
    text = given.document.read_text(encoding="utf-8")
    given.document.write_text(between("T4", text, new), encoding="utf-8")
    print(new)


if __name__ == "__main__":
    main()
