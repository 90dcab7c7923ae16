"""The README's table and picture, written from results of one version of the code.

recalib latency resnet50 --size 224 --batch 1 --runtime eager onnxruntime openvino --processes 3 --rounds 10 \
    --out results/t4 --resume
recalib compare --out results/compare --json results/compare/compare.json --overwrite > results/compare/terminal.txt
python examples/readme.py results/t4 --page results/compare/report.html

The first takes about 8 minutes on two cores that do nothing else (2, where results/t4 has ONNX Runtime and OpenVINO
already), the second 3. The picture is the page in Chromium; without --page it stays.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image
from t4 import ROOT, TITLES, between
from tyro.conf import Positional

from recalib.measure.cells import BASELINE, Cell
from recalib.measure.store import Results, read_results
from recalib.report.rows import overhead_cell

SETTING = ("resnet50", 224, 1, "fp32", "clean")  # model, size, batch, precision, protocol
RUNTIMES = {"eager": "eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
WIDTH, HEIGHT = 1200, 1560  # pixels of the page that are shown
CHROMIUM = Path("/usr/bin/chromium")


@dataclass(frozen=True)
class Arguments:
    """What `recalib latency` wrote, and the page of `recalib compare`."""

    results: Positional[Path]
    page: Path | None = None
    readme: Path = ROOT / "README.md"


def cells_of(results: Results) -> list[Cell]:
    """The cells of the table.

    Raises:
        SystemExit: where some were not measured, or by several versions of the code.
    """
    cells = [c for c in results.cells if (c.model, c.size, c.batch, c.precision, c.protocol) == SETTING]
    cells = [cell for cell in cells if cell.runtime in RUNTIMES and cell.overhead]
    if len(codes := {cell.code for cell in cells}) > 1:
        raise SystemExit(f"the cells are of {len(codes)} versions of the code: {', '.join(sorted(codes))}")
    if len(cells) < 2 * len(RUNTIMES) * (1 + len(TITLES)):
        raise SystemExit(f"only {len(cells)} of {2 * len(RUNTIMES) * (1 + len(TITLES))} cells were measured")
    return cells


def written(folder: Path) -> str:
    """The table in Markdown, and the line that says how it was measured."""
    results = read_results([ROOT / folder])
    cells = cells_of(results)
    found = {(cell.module, cell.runtime, cell.deployed): cell for cell in cells}
    heads = [
        "",
        "parameters",
        "GMACs",
        "MB moved",
        *(word for title in RUNTIMES.values() for word in (title, "deployed")),
    ]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    for module, title in {BASELINE: "plain", **TITLES}.items():
        whole = found[module, "eager", False]
        words = [f"{whole.params:,}", f"{(whole.macs or 0) / 1e9:.3f}", f"{(whole.bytes_moved or 0) / 1e6:.1f}"]
        words += [overhead_cell(found[module, name, form]) for name in RUNTIMES for form in (False, True)]
        lines.append(f"| {' | '.join([title, *words])} |")
    return "\n".join([*lines, "", about(folder, results, cells)]) + "\n"


def about(folder: Path, results: Results, cells: Sequence[Cell]) -> str:
    """What the figures are of."""
    processes = " or ".join(map(str, sorted({len(cell.processes) for cell in cells})))
    device, threads = results.machine.get("device"), results.machine.get("threads")
    code = f"code {cells[0].code}" if cells[0].code else "code not recorded"
    text = (
        f"ResNet-50, 224 px, batch 1, float32, {threads} threads of {device}: overhead over the plain network in its "
        "fastest form in the same runtime, in percent, as inserted and after `deploy`, with its 95 % interval. Made by "
        f"`recalib latency` (`{folder.as_posix()}`, {code}), {processes} fresh processes each: the interval is "
        "Student's t of the processes, so it holds what differs from one to the next."
    )
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def screenshot(page: Path, png: Path) -> None:
    """The top of a page, as Chromium draws it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        view.goto(page.resolve().as_uri())
        view.screenshot(path=png)
        browser.close()
    Image.open(png).convert("RGB").quantize(256).save(png, optimize=True)


def main() -> None:
    """Write table and picture."""
    given = tyro.cli(Arguments, description=__doc__)
    text = given.readme.read_text(encoding="utf-8")
    given.readme.write_text(between("table", text, written(given.results)), encoding="utf-8")
    if given.page is not None:
        screenshot(given.page, ROOT / "docs" / "report.png")


if __name__ == "__main__":
    main()
