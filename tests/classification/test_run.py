"""The promises of a run: repeatable, resumable to the bit, polite to signals, careful with the disk."""

import itertools
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.tracked import tensorboard_scalars, wandb_rows

from recalib.classification import RECIPES, recipe, run
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_metrics


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


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(make_job, name):
    small = {"model": "cifar_resnet8", "dataset": "cifar10", "epochs": 1, "batch": 20, "limit": 40}
    job = make_job()
    chosen = replace(recipe(name), **small, warmup_epochs=0.0, compile=False)
    assert run(replace(job, recipe=chosen)).metrics["epoch"] == 0


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
