"""`recalib report` on results and on runs."""

import json

import pytest

from recalib import cli


@pytest.fixture
def results(tmp_path):
    cells = [
        {
            "model": "resnet18", "module": module, "runtime": "eager", "deployed": True, "size": size, "batch": 1,
            "precision": "fp32", "params": 11_000_000, "macs": 1_800_000_000, "bytes_moved": 1, "status": "ok",
            "latency_ms": {"median": ms, "min": ms, "samples": [ms] * 20},
            "overhead": {"ratio": ms / 10, "low": ms / 10, "high": ms / 10},
        }
        for size in (64, [96, 64])
        for module, ms in (("baseline", 10.0), ("se", 11.0))
    ]  # fmt: skip
    file = tmp_path / "cells.json"
    file.write_text(json.dumps({"machine": {"device": "Example"}, "cells": cells}))
    return str(file)


def test_results_make_the_page(results, tmp_path, capsys):
    page = tmp_path / "deep" / "page.html"
    assert cli.main(["report", results, "--out", str(page)]) == 0
    assert 'id="figure-5"' in page.read_text()
    assert capsys.readouterr().out.strip() == str(page)


def test_a_figure_is_one_picture(results, tmp_path):
    assert cli.main(["report", results, "--figure", "5", "--out", str(tmp_path / "f.svg")]) == 0
    assert (tmp_path / "f.svg").read_text().startswith("<svg")


def test_table_2_goes_to_the_terminal(results, capsys):
    assert cli.main(["report", results, "--figure", "table2"]) == 0
    assert "| resnet18 | se | 96x64 px, batch 1, fp32 | eager | 11.00 | 1.80 |" in capsys.readouterr().out


def test_runs_make_a_table_of_accuracies(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    recipe = {"model": "resnet20", "attention": "se", "identity": False, "epochs": 1, "seed": 0}
    (run / "config.json").write_text(json.dumps({"recipe": recipe, "preset": None}))
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "top1": 91.0, "top5": 99.0}) + "\n")
    assert cli.main(["report", str(run)]) == 0
    assert "| resnet20 | se | 1 | **91.00** | **99.00** |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--figure", "5", "--out", "x.pdf"], "*.svg or *.png"),
        (["--figure", "9"], "unknown figure '9'"),
        (["--figure", "6"], "two batch sizes"),
        (["--out", "x.pdf"], "*.html"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(results, arguments, said, capsys):
    assert cli.main(["report", results, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
