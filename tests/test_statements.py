"""What README and documents state was measured: a table's figures are in its file, and a command writes it anew."""

import re
import sys
from pathlib import Path

import pytest

from recalib.choose.advice import overhead_text
from recalib.measure.store import read_results
from recalib.report.rows import overhead_cell

ROOT = Path(__file__).parents[1]
MODULES = {
    "plain": "baseline",
    "AB": "ab",
    "ECA": "eca",
    "SE": "se",
    "SRM": "srm",
    "Multi-SE": "multi_se",
    "GCT": "gct",
}
FORMS = [(runtime, form) for runtime in ("eager", "onnxruntime", "openvino") for form in (False, True)]


@pytest.fixture(scope="module")
def scripts():
    """`examples/readme.py` and `examples/t4.py`, as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        import readme
        import t4

        yield readme, t4
        del sys.modules["readme"], sys.modules["t4"]


def block(document, name):
    text = (ROOT / document).read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n\n")[2].partition(f"\n<!-- end of {name} -->")[0]


def file_of_the_readme():
    return Path(re.search(r"\(`(results/\w+)`", block("README.md", "table"))[1])


def test_the_readmes_table_is_what_its_command_writes(scripts):
    assert block("README.md", "table") == scripts[0].written(file_of_the_readme())


def test_t4s_tables_and_verdicts_are_what_their_command_writes(scripts):
    if not (ROOT / "results" / "t4").exists():
        pytest.skip("T4 was not measured in one schedule yet")
    assert block("docs/performance.md", "T4") == scripts[1].written(read_results([ROOT / "results" / "t4"]))


def test_t4_says_of_every_cell_what_was_measured_and_of_every_network_who_meets_it(scripts):
    found = read_results([ROOT / "results" / "latency"])
    said = scripts[1].written(found)
    cells = [cell for cell in found.cells if cell.size == 224 and cell.module != "baseline"]
    assert cells
    for cell in cells:
        if cell.runtime in scripts[1].RUNTIMES:
            assert f" {overhead_cell(cell)} " in said
    verdicts = [line for line in said.splitlines() if line.startswith("* **T4")]
    assert len(verdicts) == len({(c.runtime, c.model, c.batch) for c in cells if c.runtime in scripts[1].RUNTIMES})
    assert "* **T4b**, ONNX Runtime, resnet50, batch 1: open: GCT; missed: AB, ECA, SE, SRM and Multi-SE." in verdicts


def test_a_document_keeps_what_is_outside_of_the_markers(scripts):
    text = "before\n<!-- T4 -->\nold\n<!-- end of T4 -->\nafter\n"
    assert scripts[1].between("T4", text, "new\n") == "before\n<!-- T4 -->\n\nnew\n\n<!-- end of T4 -->\nafter\n"
    with pytest.raises(SystemExit, match="no markers"):
        scripts[1].between("T5", text, "new\n")


def test_every_figure_of_the_readmes_table_is_in_its_file():
    cells = {
        (cell.module, cell.runtime, cell.deployed): cell
        for cell in read_results([ROOT / file_of_the_readme()]).cells
        if (cell.model, cell.size, cell.batch, cell.precision) == ("resnet50", 224, 1, "fp32")
    }
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if re.match(r"\| (plain|[A-Z][\w-]*) \| [\d,]+ \|", line)]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in table]
    assert [row[0] for row in rows] == list(MODULES)
    for name, params, macs, moved, *overheads in rows:
        inserted = cells[MODULES[name], "eager", False]
        assert (f"{inserted.params:,}", f"{inserted.macs / 1e9:.3f}") == (params, macs)
        assert f"{inserted.bytes_moved / 1e6:.1f}" == moved
        for (runtime, form), said in zip(FORMS, overheads, strict=True):
            cell = cells[MODULES[name], runtime, form]
            words = (
                "reference" if cell.over.low == cell.over.high == 1.0 else overhead_text(cell.over).replace(" %", "")
            )
            assert said == words, (name, runtime, form)


def test_the_second_table_is_written_from_cells_and_says_which_deployed_forms_are_slower(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import beyond

    from recalib.measure.cells import Cell, Overhead

    cells = {}
    for model in beyond.MODELS:
        for module in ("baseline", *beyond.TITLES):
            for runtime in beyond.RUNTIMES:
                for deployed in (False, True):
                    worse = (module, runtime, deployed) == ("gc", "eager", True)
                    over = Overhead(1.3, 1.28, 1.32) if worse else Overhead(1.1, 1.08, 1.12)
                    cell = Cell(model=model, module=module, runtime=runtime, deployed=deployed, size=224, batch=1)
                    cell.overhead, cell.params, cell.macs, cell.bytes_moved = over, 10**6, 4 * 10**9, 10**8
                    cells[model, module, runtime, deployed] = cell
    monkeypatch.setattr(beyond, "found_in", lambda _: cells)
    text = beyond.written(Path("results/x"))
    assert "| SimAM | `simam` | 1,000,000 | 4.000 | 100.0 | +10.0 [8.0, 12.0] |" in text
    assert beyond.slower(Path("results/x")) == [f"{m}, eager, gc: 1.300, as inserted 1.100" for m in beyond.MODELS]
    assert "<!-- end of beyond -->" in (ROOT / "README.md").read_text(encoding="utf-8")
    del sys.modules["beyond"]
