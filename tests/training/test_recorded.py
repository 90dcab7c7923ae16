"""Runs that older versions wrote: their configurations are read, and they are gone on with.

`tests/recorded/versionN/TASK` is what version N left of a run that was stopped in its second epoch, every tensor of its
checkpoint thinned to its mean.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.jobs import classification_job, detection_job

from recalib.classification import RECIPES, ClassificationJob
from recalib.detection.job import DetectionJob
from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics, read_state
from recalib.segmentation.job import SegmentationJob
from recalib.training.job import VERSION, upgraded
from recalib.training.lifecycle import run

RECORDED = Path(__file__).parents[1] / "recorded"
JOBS = {"classification": ClassificationJob, "detection": DetectionJob, "segmentation": SegmentationJob}
EVERY = [pytest.param(config.parent, id=f"{config.parent.parent.name}-{config.parent.name}")
         for config in sorted(RECORDED.glob("*/*/config.json"))]  # fmt: skip


@pytest.mark.parametrize("folder", EVERY)
def test_a_configuration_of_any_version_is_read_in_todays_form(folder):
    kind, config = JOBS[folder.name], read_config(folder)
    job = kind.from_config(config, folder)
    assert job.config() == {**upgraded(config), "version": VERSION}
    for key, value in config["recipe"].items():
        assert job.config()["recipe"][key] == value


@pytest.mark.parametrize("task", JOBS)
def test_a_field_that_is_new_makes_a_new_version(task):
    """Where this fails: raise VERSION, say what older runs had in its place, and record one of the old version."""
    newest = upgraded(read_config(RECORDED / f"version{VERSION - 1}" / task))
    today = JOBS[task]().config()
    assert newest.keys() == today.keys()
    assert newest["recipe"].keys() == today["recipe"].keys()


@pytest.mark.parametrize("folder", EVERY)
def test_a_run_of_any_version_is_gone_on_with(folder, cifar, shapes, tmp_path):
    shutil.copytree(folder, tmp_path / folder.name)
    state = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, read_state(folder / "last.pt"))
    whole = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.contiguous, state)
    torch.save(whole, tmp_path / folder.name / "last.pt")
    data = cifar if folder.name == "classification" else shapes
    before = read_metrics(folder)
    job = JOBS[folder.name].from_config(read_config(folder), folder)
    outcome = run(dataclasses.replace(job, data=data, out=tmp_path, workers=0), resume=True)
    rows = read_metrics(outcome.folder)
    assert outcome.stopped is None
    assert rows[: len(before)] == before
    assert [row["epoch"] for row in rows if "train_loss" in row] == list(range(job.recipe.epochs))


def test_a_default_that_a_run_did_not_know_is_no_other_setting(cifar, tmp_path):
    job = classification_job(cifar, tmp_path, epochs=1)
    run(job)
    file = job.folder / "config.json"
    old = json.loads(file.read_text())
    del old["version"], old["task"], old["recipe"]["eval_every"], old["recipe"]["warmup_from"]
    file.write_text(json.dumps(old))
    assert run(job, resume=True).stopped is None
    with pytest.raises(RecalibError, match=r"begun with other settings: eval_every 1, now 2$"):
        run(classification_job(cifar, tmp_path, epochs=1, eval_every=2), resume=True)


def test_a_run_of_another_task_or_a_later_version_is_refused(shapes, tmp_path):
    config = detection_job(shapes, tmp_path).config()
    with pytest.raises(RecalibError, match=r"x is a run of detection, not of classification"):
        ClassificationJob.from_config(config, Path("x"))
    with pytest.raises(RecalibError, match=r"a configuration of version 99: this version of recalib knows 1 to"):
        DetectionJob.from_config({**config, "version": 99}, Path("x"))


def test_a_configuration_by_hand_is_a_recipe_and_what_differs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: cifar-paper\ndata: cifar\nrecipe:\n  epochs: 7\n  lr: 1e-3\n")
    job = ClassificationJob.from_config(read_config(file), file)
    assert (job.recipe.epochs, job.recipe.lr, job.data) == (7, 0.001, Path("cifar"))
    assert job.recipe.milestones == RECIPES["cifar-paper"].milestones
    file.write_text("preset: cifar-papr\n")
    with pytest.raises(RecalibError, match=r"\$.preset: there is no recipe 'cifar-papr'"):
        ClassificationJob.from_config(read_config(file), file)
