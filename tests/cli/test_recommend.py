"""`recalib recommend` from results that are there, and from its own measurement."""

import json

import pytest

from recalib import cli
from recalib.classification import ClassificationJob, ClassificationRecipe


def cell(module, ms, **other):
    return {
        "model": "resnet50", "module": module, "runtime": "eager", "deployed": True, "size": 64, "batch": 2,
        "precision": "fp32", "params": 25_000_000, "status": "ok",
        "latency_ms": {"median": ms, "min": ms, "samples": [ms] * 20},
        "overhead": {"ratio": ms / 10, "low": ms / 10 - 0.01, "high": ms / 10 + 0.01}, **other,
    }  # fmt: skip


@pytest.fixture
def known(tmp_path):
    file = tmp_path / "known.json"
    cells = [cell("baseline", 10.0), cell("eca", 10.4), cell("se", 12.0), cell("eca", 1.0, size=224)]
    file.write_text(json.dumps({"machine": {}, "cells": cells}))
    return ["--results", str(file), "--size", "64", "--batch", "2", "--runtime", "eager"]


def test_it_recommends_from_known_results_of_the_setting_and_measures_nothing(known, tmp_path, capsys):
    out = tmp_path / "chosen.json"
    arguments = ["resnet50", *known, "--attention", "eca", "se", "--latency", "11ms"]
    assert cli.main(["recommend", *arguments, "--out", str(tmp_path / "none"), "--json", str(out)]) == 0
    assert capsys.readouterr().out.startswith("- Use resnet50 with eca: 10.40 ms [10.40, 10.40]")
    chosen = json.loads(out.read_text())
    assert (chosen["best"]["module"], chosen["runner_up"]["module"]) == ("eca", "baseline")
    assert {one["module"]: one["verdict"] for one in chosen["candidates"]}["se"] == "over"
    assert not (tmp_path / "none").exists()


def test_the_runs_of_a_study_tell_the_accuracies(known, tmp_path, capsys):
    study = tmp_path / "study"
    for module, top1 in ((None, 90.0), ("eca", 93.0), ("se", 92.0)):
        for seed in (0, 1):
            recipe = ClassificationRecipe(dataset="cifar10", model="resnet50", attention=module, epochs=1, seed=seed)
            job = ClassificationJob(recipe=recipe, out=study, preset="small")
            job.folder.mkdir(parents=True)
            (job.folder / "config.json").write_text(json.dumps(job.config()))
            row = {"step": 1, "epoch": 0, "train_loss": 1.0, "top1": top1 + 0.1 * seed, "images": 10_000}
            (job.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    words = ["resnet50", *known, "--attention", "eca", "se", "--latency", "13ms", "--runs", str(study)]
    assert cli.main(["recommend", *words, "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("- Use resnet50 with eca: 10.40 ms [10.40, 10.40]")
    assert "top-1 93.05" in said
    assert "(your runs, 2)" in said


def test_a_budget_that_nothing_meets_is_work_that_failed(known, capsys):
    assert cli.main(["recommend", "resnet50", *known, "--attention", "eca", "--latency", "1ms"]) == 1
    assert "the fastest is plain resnet50" in capsys.readouterr().err


def test_a_limit_that_is_none_is_a_bad_argument(capsys):
    assert cli.main(["recommend", "resnet50", "--latency", "fast"]) == 2
    assert "--latency 'fast'" in capsys.readouterr().err


def test_an_unknown_module_is_refused_before_anything_is_measured(tmp_path, capsys):
    assert cli.main(["recommend", "resnet18", "--attention", "ecca", "--out", str(tmp_path / "none")]) == 2
    assert "unknown attention 'ecca'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("in_process")
def test_what_is_missing_is_measured(tmp_path, capsys):
    arguments = ["mobilenet", "--attention", "se", "--size", "32", "--runtime", "eager", "--rounds", "5"]
    assert cli.main(["recommend", *arguments, "--memory", "1GB", "--out", str(tmp_path)]) == 0
    assert "Use plain mobilenetv2_100" in capsys.readouterr().out
    assert (tmp_path / "mobilenetv2_100.jsonl").exists()
