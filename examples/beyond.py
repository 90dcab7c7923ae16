"""The README's second table: what the mechanisms beyond the paper cost, from one file of measurements.

recalib latency resnet50 mobilenetv2_100 --attention cbam triplet simam coord ela bam fca sge gc ecam scse \
    --runtime eager onnxruntime --processes 3 --rounds 8 --out results/latency_beyond --resume
python examples/beyond.py results/latency_beyond

The first takes about 13 minutes on two cores that do nothing else. The second also says where a deployed form is slower
than the network as it was inserted.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import tyro
from t4 import ROOT, between
from tyro.conf import Positional

from recalib.measure.cells import BASELINE, Cell
from recalib.measure.store import read_results
from recalib.report.rows import overhead_cell

TITLES = {
    "cbam": "CBAM",
    "triplet": "Triplet",
    "simam": "SimAM",
    "coord": "Coordinate",
    "ela": "ELA",
    "bam": "BAM",
    "fca": "FcaNet",
    "sge": "SGE",
    "gc": "GC",
    "ecam": "ECAM",
    "scse": "scSE",
}
MODELS = {"resnet50": "ResNet-50", "mobilenetv2_100": "MobileNetV2"}
RUNTIMES = {"eager": "eager", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True)
class Arguments:
    """What `recalib latency` wrote."""

    results: Positional[Path]
    readme: Path = ROOT / "README.md"


def found_in(folder: Path) -> dict[tuple[str, str, str, bool], Cell]:
    """Cells by network, module, runtime and form.

    Raises:
        SystemExit: where some were not measured, or by several versions of the code.
    """
    cells = [cell for cell in read_results([ROOT / folder]).cells if cell.overhead]
    found = {(cell.model, cell.module, cell.runtime, cell.deployed): cell for cell in cells}
    wanted = len(MODELS) * (1 + len(TITLES)) * len(RUNTIMES) * 2
    if len(found) < wanted:
        raise SystemExit(f"only {len(found)} of {wanted} cells were measured")
    if len(codes := {cell.code for cell in cells}) > 1:
        raise SystemExit(f"the cells are of {len(codes)} versions of the code: {', '.join(sorted(map(str, codes)))}")
    return found


def written(folder: Path) -> str:
    """Tables in Markdown, one a network, and the line that says how they were measured."""
    found = found_in(folder)
    texts = []
    for model, title in MODELS.items():
        heads = [title, "name", "parameters", "GMACs", "MB moved"]
        heads += [word for runtime in RUNTIMES.values() for word in (runtime, "deployed")]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for module, name in {BASELINE: "plain", **TITLES}.items():
            whole = found[model, module, "eager", False]
            words = [name, "" if module == BASELINE else f"`{module}`", f"{whole.params:,}"]
            words += [f"{(whole.macs or 0) / 1e9:.3f}", f"{(whole.bytes_moved or 0) / 1e6:.1f}"]
            words += [
                overhead_cell(found[model, module, runtime, form]) for runtime in RUNTIMES for form in (False, True)
            ]
            lines.append(f"| {' | '.join(words)} |".replace("|  |", "| |"))
        texts.append("\n".join(lines))
    first = next(iter(found.values()))
    processes = ", ".join(
        f"{title} in {len(found[model, BASELINE, 'eager', False].processes) or 1}" for model, title in MODELS.items()
    )
    about = (
        "Each module at the end of every residual branch, 224 px, batch 1, float32: overhead over the plain network in "
        "its fastest form in the same runtime, in percent, as inserted and after `deploy`, with its 95 % interval. "
        f"Made by `recalib latency` (`{folder.as_posix()}`, code {first.code}), "
        f"fresh processes each: {processes}. Where it is one, its interval does not hold what differs from one to "
        "the next."
    )
    texts.append(textwrap.fill(about, 120, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(texts) + "\n"


def slower(folder: Path) -> list[str]:
    """Deployed forms whose interval lies above that of the network as inserted."""
    lines = []
    for (model, module, runtime, deployed), cell in found_in(folder).items():
        as_it_is = found_in(folder)[model, module, runtime, False].overhead
        if deployed and cell.overhead and as_it_is and cell.overhead.low > as_it_is.high:
            lines.append(f"{model}, {runtime}, {module}: {cell.overhead.ratio:.3f}, as inserted {as_it_is.ratio:.3f}")
    return lines


def main() -> None:
    """Write the table, and say what speaks against deploying."""
    given = tyro.cli(Arguments, description=__doc__)
    text = given.readme.read_text(encoding="utf-8")
    given.readme.write_text(between("beyond", text, written(given.results)), encoding="utf-8")
    worse = slower(given.results)
    print("\n".join(worse) if worse else "No deployed form is slower than the network as it was inserted.")


if __name__ == "__main__":
    main()
