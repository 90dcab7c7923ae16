"""What the README states was measured: every figure of its table is in its file."""

import re
from pathlib import Path

from recalib.choose.advice import overhead_text
from recalib.measure.store import read_results

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


def test_every_figure_of_the_readmes_table_is_in_its_file():
    cells = {
        (cell.module, cell.runtime, cell.deployed): cell
        for cell in read_results([ROOT / "results" / "latency"]).cells
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
