"""The promises of a run: repeatable, resumable to the bit, polite to signals, careful with the disk."""

import itertools
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from examples.kills import hunt, undisturbed
from PIL import Image
from safetensors.torch import load_file
from tests.tracked import tensorboard_scalars, wandb_rows

from recalib import inspect_checkpoint
from recalib.classification import RECIPES, ClassificationJob, recipe, run
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_config, read_metrics, read_state
from recalib.training.trainer import Trainer


def result_of(job):
    """Everything a run ends with that must not depend on how often it was interrupted."""
    rows = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["images_per_second"]
    weights = {file.name: load_file(file) for file in job.folder.glob("*.safetensors")}
    return rows, weights, read_state(job.folder / "last.pt")


def assert_same(a, b):
    flat_a, flat_b = (torch.utils._pytree.tree_flatten(result)[0] for result in (a, b))
    assert len(flat_a) == len(flat_b)
    for one, other in zip(flat_a, flat_b, strict=True):
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other


def survive_kills(make_job, processes, kills, **recipe):
    """Kill a run at random moments, resume it each time, and compare its end with that of an undisturbed one."""
    calm, hunted = (make_job(name, save_every=2, **recipe) for name in ("calm", "hunted"))
    expected, duration = undisturbed(calm)
    done = hunt(hunted, kills, duration, processes)
    assert len(done.kills) == kills
    for end in done.ends:
        assert end == expected


def test_a_run_that_is_killed_and_resumed_ends_in_the_same_bits(make_job, processes):
    survive_kills(
        make_job, processes, 3, holdout=0.2, ema=0.9, cutmix=1.0, mixup=0.2, label_smoothing=0.1, attention="srm"
    )


def run_offline(job, resume):
    os.environ["WANDB_MODE"] = "offline"
    run(job, resume=resume)


def test_trackers_show_every_epoch_once_after_a_kill(make_job, processes):
    job = make_job(track=("tensorboard", "wandb"), epochs=4)
    killed, resumed = (processes.Process(target=run_offline, args=(job, resume)) for resume in (False, True))
    killed.start()
    while killed.is_alive() and len(read_metrics(job.folder)) < 2:
        time.sleep(0.01)
    killed.kill()
    killed.join()
    resumed.start()
    resumed.join()
    assert (killed.exitcode, resumed.exitcode) == (-signal.SIGKILL, 0)
    top1 = [(row["step"], row["top1"]) for row in read_metrics(job.folder)]
    assert len(top1) == 4
    assert tensorboard_scalars(job.folder)["top1"] == top1  # whole numbers, which its float32 holds
    assert [(row["_step"], row["top1"]) for row in wandb_rows(job.folder)] == top1


@pytest.mark.slow(reason="twenty kills of a longer run")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_twenty_kills_change_no_bit(make_job, processes, optimizer):
    survive_kills(
        make_job, processes, 20, optimizer=optimizer, lr=0.01, epochs=6, limit=400, ema=0.9, cutmix=1.0, accumulate=2
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(make_job, name):
    small = {"model": "cifar_resnet8", "dataset": "cifar10", "epochs": 1, "batch": 20, "limit": 40}
    job = make_job()
    chosen = replace(recipe(name), **small, warmup_epochs=0.0, compile=False)
    assert run(replace(job, recipe=chosen)).metrics["epoch"] == 0


def test_the_same_job_twice_gives_the_same_bits(make_job):
    jobs = make_job("a"), make_job("b")
    for job in jobs:
        run(job)
    assert_same(*map(result_of, jobs))


def test_without_a_holdout_no_epoch_is_chosen(make_job):
    outcome = run(make_job())
    assert not any(key.startswith(("best", "holdout")) for key in outcome.metrics)
    assert {file.name for file in outcome.folder.glob("*.safetensors")} == {"last.safetensors"}


def test_the_best_epoch_is_the_one_that_is_best_on_training_images_set_aside(make_job):
    outcome = run(make_job(holdout=0.4, epochs=4, lr=0.05))
    rows = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["holdout_top1"])
    assert (outcome.metrics["best_epoch"], outcome.metrics["best_top1"]) == (best["epoch"], best["top1"])
    assert inspect_checkpoint(outcome.folder / "best.safetensors").metadata["epoch"] == best["epoch"]


def test_a_holdout_without_an_image_is_refused(make_job):
    with pytest.raises(RecalibError, match=r"holdout 0\.001: sets no training image aside"):
        run(make_job(holdout=0.001))


def test_another_seed_gives_another_network(make_job):
    jobs = make_job("a", seed=0), make_job("b", seed=1)
    for job in jobs:
        run(job)
    first, second = (result_of(job)[1]["last.safetensors"]["conv1.weight"] for job in jobs)
    assert not torch.equal(first, second)


def test_the_configuration_that_a_run_writes_repeats_it(make_job):
    job = make_job("a", attention="eca", options=("kernel_size=5",))
    run(job)
    config = read_config(job.folder)
    again = replace(ClassificationJob.from_config(config, job.folder), name="b")
    run(again)
    assert_same(result_of(job), result_of(again))


def test_sigterm_saves_and_says_how_to_go_on(make_job, monkeypatch):
    calm, stopped = make_job("calm"), make_job("stopped")
    run(calm)
    step, original = iter(range(100)), Trainer._step

    def interrupted(self, images, labels):
        original(self, images, labels)
        if next(step) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    outcome = run(stopped)
    on = f"recalib train --config {stopped.folder}/config.json --resume"
    assert outcome.stopped == f"stopped by SIGTERM at epoch 1, step 2; go on with: {on}"
    assert run(stopped, resume=True).stopped is None
    assert_same(result_of(calm), result_of(stopped))


def test_a_folder_that_holds_a_run_is_not_overwritten(make_job):
    job = make_job()
    run(job)
    with pytest.raises(RecalibError, match="holds a run already; add --resume"):
        run(job)


def test_resuming_with_other_settings_names_them(make_job):
    run(make_job(lr=0.1))
    with pytest.raises(RecalibError, match=r"begun with other settings: lr 0.1, now 0.2$"):
        run(make_job(lr=0.2), resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(make_job):
    job = make_job(lr=1e30)
    with pytest.raises(WorkFailed, match="the loss is not finite at epoch 0"):
        run(job)
    state = read_state(job.folder / "last.pt")
    assert all(torch.isfinite(t).all() for t in state["network"].values() if t.is_floating_point())


def test_rollback_goes_back_once_and_takes_another_order(make_job, monkeypatch):
    original, poisoned = Trainer._step, []

    def poison(self, images, labels):
        if self.epoch == 1 and not poisoned:
            poisoned.append(self.steps_done)
            images = images * float("nan")
        original(self, images, labels)

    monkeypatch.setattr(Trainer, "_step", poison)
    job = make_job(on_nan="rollback")
    outcome = run(job)
    assert poisoned == [5]
    assert outcome.stopped is None
    assert read_state(job.folder / "last.pt")["attempt"] == 1
    assert outcome.metrics["train_loss"] < 10


def test_a_second_rollback_is_refused(make_job):
    with pytest.raises(WorkFailed, match="not finite at epoch 0, step 5, again"):
        run(make_job(lr=1e30, on_nan="rollback"))


def test_a_full_disk_keeps_the_last_good_checkpoint(make_job, monkeypatch):
    job = make_job(save_every=1)
    saves, original = iter(range(100)), Path.write_bytes

    def full(path, data):
        if next(saves) == 4:
            original(path, b"half")
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WorkFailed, match=r"No space left on device; the one before is kept"):
        run(job)
    assert read_state(job.folder / "last.pt")["step"] == 3
    assert not list(job.folder.glob("*.tmp")) + list(job.folder.glob(".*.tmp"))
    monkeypatch.undo()
    assert run(job, resume=True).stopped is None


def test_missing_data_is_named_before_anything_is_written(make_job, tmp_path):
    job = replace(make_job(), data=tmp_path / "nowhere")
    with pytest.raises(RecalibError, match="nowhere holds no cifar10"):
        run(job)
    assert not job.folder.exists()


def test_a_device_that_is_not_there_is_named(make_job):
    if torch.cuda.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(RecalibError, match="accelerator 'cuda', devices 1: "):
        run(replace(make_job(), accelerator="cuda"))


def test_a_batch_that_no_training_images_fill_is_refused(make_job):
    with pytest.raises(RecalibError, match="batch 200: gives 1 processes no whole batch"):
        run(make_job(batch=200, drop_last=True))


def test_a_folder_of_images_is_trained_on_and_what_cannot_be_read_is_named(make_job, tmp_path, capsys):
    draw = np.random.default_rng(0)
    for half, name in itertools.product(("train", "val"), ("cat", "dog")):
        folder = tmp_path / "images" / half / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.fromarray(draw.integers(0, 256, (40, 44, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    broken = tmp_path / "images" / "train" / "dog" / "2.png"
    broken.write_bytes(b"no image")
    job = replace(make_job(dataset="imagenet", image_size=32, batch=4, workers=0), data=tmp_path / "images")
    assert run(job).metrics["unreadable"] == [str(broken)]
    assert f"1 images could not be read and were replaced: {broken}" in capsys.readouterr().out
    with pytest.raises(WorkFailed, match=r"dog/2.png cannot be read"):
        run(replace(job, name="strict", strict=True))
