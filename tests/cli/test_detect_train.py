import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recalib.cli import main
from recalib.detection.checkpoints import load_detector


def test_the_steps_of_detect_are_listed(capsys):
    assert main(["detect"]) == 2
    assert main(["detect", "--help"]) == 0
    assert "evaluate  COCO's average precision" in capsys.readouterr().out


def test_an_unknown_step_names_the_nearest(capsys):
    assert main(["detect", "trian"]) == 2
    assert "unknown step of detect 'trian'; did you mean train" in capsys.readouterr().err


def test_help_shows_an_example_and_every_recipe(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["detect", "train", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "recalib detect train coco-1x --data COCO" in said
    assert "coco-2x, scratchdet-bdd" in said


def test_a_recipe_is_asked_for(capsys):
    assert main(["detect", "train", "--data", "coco"]) == 2
    assert "which recipe? There are coco-1x" in capsys.readouterr().err


def test_data_that_is_not_there_is_named(tmp_path, capsys):
    missing = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "runs")]
    assert main(["detect", "train", "coco-1x", "--model", "fasterrcnn_resnet18_fpn", *missing]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_resuming_reads_the_configuration_of_the_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"modle": "x"}}))
    assert main(["detect", "train", "--config", str(tmp_path / "config.json"), "--resume"]) == 2
    assert "unknown setting '$.recipe.modle'" in capsys.readouterr().err


@pytest.mark.slow(reason="starts processes that import everything anew")
def test_two_processes_train_together(tmp_path):
    root = os.environ.get("RECALIB_DATA")
    if root is None or not (Path(root) / "bdd_mini").is_dir():
        pytest.skip("RECALIB_DATA names no folder with bdd_mini")
    flags = {
        "data": Path(root) / "bdd_mini" / "labels.json", "model": "fasterrcnn_resnet18_fpn", "epochs": 1, "limit": 4,
        "batch": 2, "min-size": 64, "max-size": 128, "devices": 2, "device": "cpu", "workers": 0,
        "out": tmp_path, "name": "two", "json": tmp_path / "out.json",
    }  # fmt: skip
    words = [str(word) for key, value in flags.items() for word in (f"--{key}", value)]
    command = ["detect", "train", "coco-1x", *words]
    done = subprocess.run([sys.executable, "-m", "recalib", *command], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch 0: train loss") == 1
    assert json.loads((tmp_path / "out.json").read_text())["stopped"] is None
    load_detector(tmp_path / "two")
