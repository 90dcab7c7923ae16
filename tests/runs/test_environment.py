import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest

from recalib.runs import environment


@pytest.mark.parametrize(
    ("spec", "program", "told"),
    [
        ("recalib.__main__", "src/recalib/__main__.py", ["recalib"]),
        (None, "/opt/python/bin/recalib", ["recalib"]),
        ("recalib.classification.throughput", "throughput.py", ["python", "-m", "recalib.classification.throughput"]),
        (None, "examples/kills.py", ["python", "examples/kills.py"]),
    ],
)
def test_the_command_is_told_as_it_was_typed(monkeypatch, spec, program, told):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec and ModuleSpec(spec, None)))
    monkeypatch.setattr(sys, "argv", [program, "train", "--lr", "0.1", "--data", "data"])
    assert environment()["command"] == [*told, "train", "--lr", "0.1", "--data", "data"]


def test_no_place_on_this_machine_is_told(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["--data", f"{tmp_path}/elsewhere/data", f"--json={tmp_path}/here/a/b.json", "~/x.pth", "--lr=0.1"]
    monkeypatch.setattr(sys, "argv", ["recalib", *words])
    assert environment()["command"][-5:] == ["--data", "data", "--json=a/b.json", "x.pth", "--lr=0.1"]
    assert str(tmp_path) not in str(environment())
