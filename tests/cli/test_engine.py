"""``--engine ray``: the same commands on a cluster; what they measure comes home as if it were measured here."""

import json

import pytest
from tests.cluster import two_nodes

from recalib.cli import main
from recalib.cli.engine import without


def test_a_flag_goes_with_its_value_in_either_form():
    words = ["resnet18", "--on", "gpu", "--modules", "eca", "se", "--out=x", "--resume"]
    assert without(words, ("--on", "--out")) == ["resnet18", "--modules", "eca", "se", "--resume"]


@pytest.mark.parametrize("flag", ["--address", "--on"])
def test_a_clusters_flags_are_nothing_without_it(flag, capsys, tmp_path):
    assert main(["latency", "resnet18", flag, "somewhere", "--out", str(tmp_path / "out")]) == 2
    assert f"{flag} somewhere: is for nodes of a cluster; add --engine ray" in capsys.readouterr().err


@pytest.mark.slow
def test_a_grid_is_measured_on_the_node_asked_for_and_a_study_trained(tmp_path, cifar, capsys):
    with two_nodes() as cluster:
        ray = ["--engine", "ray", "--address", cluster.address]
        out = tmp_path / "latency"
        sizes = ["--size", "32", "--attention", "eca", "--runtime", "eager", "--rounds", "5", "--processes", "1"]
        grid = ["latency", "cifar_resnet20", *sizes, "--out", str(out), "--json", str(tmp_path / "cells.json")]
        assert main([*grid, *ray, "--on", "kind=measures"]) == 0
        cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
        assert [cell["status"] for cell in cells] == ["ok"] * 4
        assert (out / "report.html").exists()
        assert str(out / "latency.jsonl") in capsys.readouterr().out
        assert main([*grid, *ray]) == 2  # what is there is not measured again without a word
        assert "--resume" in capsys.readouterr().out
        study = ["study", "cifar-paper", "--data", str(cifar), "--model", "cifar_resnet8", "--attention", "eca",
                 "--seeds", "1", "--epochs", "1", "--limit", "60", "--rounds", "0", "--accelerator", "cpu",
                 "--deeper", "none", "--out", str(tmp_path / "study")]  # fmt: skip
        assert main([*study, *ray]) == 0
        told = json.loads((tmp_path / "study" / "study.json").read_text())
        assert told["missing"] == {}
