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


@pytest.fixture
def runs(tmp_path):
    """Two networks, one of them with three seeds."""
    folders = []

    def write(attention, seed, top1s, epochs=2, **changes):
        recipe = {"model": "resnet20", "attention": attention, "identity": False, "epochs": epochs, "seed": seed}
        folders.append(tmp_path / f"{attention}-{len(folders)}")
        folders[-1].mkdir()
        (folders[-1] / "config.json").write_text(json.dumps({"recipe": {**recipe, **changes}, "preset": None}))
        rows = [json.dumps({"step": i, "epoch": i, "top1": top1, "top5": 99.0}) for i, top1 in enumerate(top1s)]
        (folders[-1] / "metrics.jsonl").write_text("\n".join(rows))
        return [str(folder) for folder in folders]

    for seed, top1 in enumerate((90.0, 91.0, 92.0)):
        write("se", seed, [50.0, top1])
    write(None, 0, [50.0, 90.5])
    return write


def test_runs_make_a_table_of_accuracies(runs, capsys):
    assert cli.main(["report", *runs("eca", 0, [50.0, 80.0])]) == 0
    out = capsys.readouterr().out
    assert "| resnet20 | se | 3 | <u>91.00 ± 1.00</u> | <u>99.00 ± 0.00</u> | -0.50, 1 common seed: open |" in out
    assert "| resnet20 | baseline | 1 | <u>90.50</u> | <u>99.00</u> |" in out
    assert "| resnet20 | eca | 1 | <u>80.00</u> | <u>99.00</u> |" in out


def test_a_folder_of_runs_stands_for_its_runs(runs, tmp_path, capsys):
    runs("eca", 0, [50.0, 80.0])
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "| resnet20 | eca | 1 |" in capsys.readouterr().out


def test_runs_of_other_recipes_have_rows_of_their_own(runs, capsys):
    assert cli.main(["report", *runs("se", 0, [40.0, 85.0], lr=0.3)]) == 0
    out = capsys.readouterr().out
    assert "| resnet20 | lr None | se | 3 | <u>91.00 ± 1.00</u> |" in out
    assert "| resnet20 | lr 0.3 | se | 1 | 85.00 |" in out


def test_a_run_that_did_not_come_to_its_end_is_left_out_and_named(runs, capsys):
    folders = runs("eca", 0, [95.0])
    assert cli.main(["report", *folders]) == 0
    said = capsys.readouterr()
    assert "eca" not in said.out
    assert "left out, for they did not come to their end: eca-4" in said.err
    assert cli.main(["report", folders[-1]]) == 2
    assert "eca-4: no run came to its end" in capsys.readouterr().err


def test_runs_make_a_page_of_curves_and_tables(runs, tmp_path):
    page = tmp_path / "deep" / "page.html"
    assert cli.main(["report", *runs("<b>eca", 0, [50.0, 80.0]), "--out", str(page)]) == 0
    text = page.read_text()
    assert "<u>91.00 ± 1.00</u>" in text
    assert "<u>90.50</u>" in text
    assert "-0.50, 1 common seed: open" in text
    assert text.count("<svg") == 2 + 3  # the curves, wide and narrow, and the modules' marks
    assert text.count('aria-label="Symbol legend') == 2  # which colour is which module
    assert "&lt;b&gt;eca" in text
    assert "<b>eca" not in text
    assert str(tmp_path) not in text


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
