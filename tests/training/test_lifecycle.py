"""The promises of a run of any task: repeatable, resumable to the bit, polite to signals, careful with the disk."""

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from examples.kills import hunt, undisturbed
from tests.jobs import assert_same, result_of, run_in_process

from recalib.attention.param_groups import NORMS
from recalib.data import seed_for
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_config, read_metrics, read_state
from recalib.runs.folder import RunFolder, read_facts
from recalib.surgery.checkpoints.checkpoint import understand
from recalib.surgery.checkpoints.files import read
from recalib.training.lifecycle import run
from recalib.training.longer import longer
from recalib.training.processes import launched
from recalib.training.trainer import Trainer

SCORES = {"classification": "top1", "detection": "AP", "segmentation": "miou"}


def survive_kills(make_job, processes, kills, **recipe):
    """Kill a run at random moments, resume it each time, and compare its end with that of an undisturbed one."""
    calm, hunted = (make_job(name, save_every=2, log_every=1, **recipe) for name in ("calm", "hunted"))
    expected, duration = undisturbed(calm)
    done = hunt(hunted, kills, duration, processes, target=run_in_process)
    assert len(done.kills) == kills
    for end in done.ends:
        assert end == expected


def test_a_run_that_is_killed_and_resumed_ends_in_the_same_bits(make_job, processes):
    survive_kills(make_job, processes, 2, holdout=0.2, ema=0.9, attention="srm", repeat=2)


@pytest.mark.slow(reason="twenty kills of a longer run")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_twenty_kills_change_no_bit(make_job, processes, optimizer):
    survive_kills(make_job, processes, 20, optimizer=optimizer, lr=0.01, epochs=6, repeat=4, ema=0.9, accumulate=2)


def test_the_same_job_twice_gives_the_same_bits_and_another_seed_others(make_job):
    jobs = make_job("a"), make_job("b"), make_job("c", seed=1)
    for job in jobs:
        run(job)
    first, second, other = map(result_of, jobs)
    assert_same(first, second)
    weights = [result[1]["last.safetensors"] for result in (first, other)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.5, "accumulate": 2, "clip": 1.0, "schedule": "cosine", "warmup": 0, "warmup_epochs": 0.5},
        {"optimizer": "adam", "channels_last": True, "precision": "bf16-mixed", "drop_last": True, "nesterov": True},
        {"optimizer": "adamw", "freeze_norms": True, "decay_norms_and_biases": False, "schedule": "exponential"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_is_one_of_every_task(make_job, options):
    metrics = run(make_job(epochs=1, lr=0.001, **options)).metrics
    assert metrics["train_loss"] < 10


@pytest.mark.parametrize("what", ["attention", "attention+norms"])
def test_attention_learns_alone_or_with_the_norms(make_job, what):
    job = make_job(epochs=1, attention="srm", trained=what, limit=4, batch=2, lr=0.1, warmup=0)
    run(job)
    now, before = read_state(job.folder / "last.pt")["network"], fresh(job)
    moved = {name for name, tensor in before.named_parameters() if not torch.equal(now[name], tensor)}
    norms = {f"{name}.{part}" for name, module in before.named_modules() if isinstance(module, NORMS)
             for part in ("weight", "bias")}  # fmt: skip
    assert {name for name in moved if "attention" in name}
    assert {name for name in moved if "attention" not in name} == {
        name for name in moved & norms if what == "attention+norms" and "attention" not in name
    }
    assert (what == "attention+norms") == any("attention" not in name for name in moved)


def fresh(job):
    """The network that a job starts from."""
    fabric = launched(job.accelerator, 1, "32-true")
    torch.manual_seed(seed_for(job.recipe.seed))
    return job.resolved().open(fabric).network


def test_without_attention_there_is_none_to_train(make_job):
    with pytest.raises(RecalibError, match="trained attention: this network has nothing of it to train"):
        run(make_job(trained="attention"))


@pytest.mark.slow(reason="half a minute for the compiler")
def test_every_task_trains_compiled(make_job):
    assert run(make_job(epochs=1, compile=True)).metrics["train_loss"] < 10


def test_replayed_steps_are_compiled_and_do_not_gather_gradients(make_job):
    assert make_job(compile=True, compile_mode="reduce-overhead").recipe.compiled == "reduce-overhead"
    for others in ({}, {"compile": True, "accumulate": 2}):
        with pytest.raises(RecalibError, match="reduce-overhead: goes with compile, and with accumulate 1"):
            make_job(compile_mode="reduce-overhead", **others)


def test_the_configuration_that_a_run_writes_repeats_it(make_job):
    job = make_job("a", attention="eca", options=("kernel_size=5",), epochs=1)
    run(job)
    again = replace(type(job).from_config(read_config(job.folder), job.folder), name="b")
    run(again)
    assert_same(result_of(job), result_of(again))


def test_sigterm_saves_and_says_how_to_go_on(make_job, monkeypatch):
    calm, stopped = make_job("calm"), make_job("stopped")
    run(calm)
    step, original = iter(range(100)), Trainer._step

    def interrupted(self, batch):
        original(self, batch)
        if next(step) == self.steps_in_epoch + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    outcome = run(stopped)
    on = f"recalib {stopped.command} --config {stopped.folder}/config.json --resume"
    assert outcome.stopped == f"stopped by SIGTERM at epoch 1, step 2; go on with: {on}"
    assert run(stopped, resume=True).stopped is None
    assert_same(result_of(calm), result_of(stopped))


def test_a_kill_between_an_epochs_row_and_its_checkpoint_leaves_the_row_once(make_job, monkeypatch):
    """Found by ten kills of a Faster R-CNN: the last step's checkpoint and the epoch's row have the same step."""
    calm, killed = make_job("calm", save_every=1), make_job("killed", save_every=1)
    run(calm)
    original = RunFolder.save

    def cut(self, state):
        if (state["epoch"], state["step"]) == (1, 0):
            raise KeyboardInterrupt
        original(self, state)

    monkeypatch.setattr(RunFolder, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    monkeypatch.undo()
    run(killed, resume=True)
    assert_same(result_of(calm), result_of(killed))


def test_a_folder_that_holds_a_run_is_not_overwritten(make_job):
    job = make_job(epochs=1)
    run(job)
    with pytest.raises(RecalibError, match="holds a run already; add --resume"):
        run(job)
    with pytest.raises(RecalibError, match=r"begun with other settings: momentum 0.9, now 0.8$"):
        run(make_job(epochs=1, momentum=0.8), resume=True)


def test_evaluation_is_as_often_as_asked_and_after_the_last_epoch(make_job):
    job = make_job(epochs=3, eval_every=2, milestones=(), eval_limit=1)
    score = SCORES[job.task]
    run(job)
    rows = read_metrics(job.folder)
    assert [score in row for row in rows] == [False, True, True]
    assert [row.get("images") for row in rows] == [None, 1, 1]


def test_without_a_holdout_no_epoch_is_chosen(make_job):
    outcome = run(make_job(epochs=1))
    assert not any(key.startswith(("best", "holdout")) for key in outcome.metrics)
    assert {file.name for file in outcome.folder.glob("*.safetensors")} == {"last.safetensors"}


def test_the_best_epoch_is_the_one_that_is_best_on_training_images_set_aside(make_job):
    job = make_job(holdout=0.4, epochs=3, lr=0.05)
    score = SCORES[job.task]
    outcome = run(job)
    rows = read_metrics(job.folder)
    best = max(rows, key=lambda row: row[f"holdout_{score}"])
    assert (outcome.metrics["best_epoch"], outcome.metrics[f"best_{score}"]) == (best["epoch"], best[score])
    assert understand(read(outcome.folder / "best.safetensors")).metadata["epoch"] == best["epoch"]


def test_a_holdout_without_an_image_is_refused(make_job):
    with pytest.raises(RecalibError, match=r"holdout 0\.001: sets no training image aside"):
        run(make_job(holdout=0.001))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(make_job):
    job = make_job(lr=1e30, warmup=0)
    with pytest.raises(WorkFailed, match="the loss is not finite at epoch 0"):
        run(job)
    state = read_state(job.folder / "last.pt")
    assert all(torch.isfinite(t).all() for t in state["network"].values() if t.is_floating_point())


def test_rollback_goes_back_once_and_takes_another_order(make_job, monkeypatch):
    original, poisoned = Trainer._step, []

    def poison(self, batch):
        original(self, batch)
        if self.epoch == 1 and not poisoned:
            poisoned.append(self.steps_done)
            self.totals["loss"] *= float("nan")

    monkeypatch.setattr(Trainer, "_step", poison)
    job = make_job(on_nan="rollback")
    outcome = run(job)
    assert poisoned
    assert outcome.stopped is None
    assert read_state(job.folder / "last.pt")["attempt"] == 1
    assert outcome.metrics["train_loss"] < 10


def test_a_second_rollback_is_refused(make_job):
    with pytest.raises(WorkFailed, match=r"not finite at epoch 0, step \d, again"):
        run(make_job(lr=1e30, warmup=0, on_nan="rollback"))


def test_a_full_disk_keeps_the_last_good_checkpoint(make_job, monkeypatch):
    job = make_job(save_every=1)
    saves, original = iter(range(100)), Path.write_bytes

    def full(path, data):
        if "last.pt" in path.name and next(saves) == 2:
            original(path, b"half")
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WorkFailed, match=r"No space left on device; the one before is kept"):
        run(job)
    assert read_state(job.folder / "last.pt")["step"] == 1
    assert not list(job.folder.glob("*.tmp")) + list(job.folder.glob(".*.tmp"))
    monkeypatch.undo()
    assert run(job, resume=True).stopped is None


def test_missing_data_is_named_before_anything_is_written(make_job, tmp_path):
    job = replace(make_job(), data=tmp_path / "nowhere")
    with pytest.raises(RecalibError, match="nowhere holds no"):
        run(job)
    assert not job.folder.exists()


def test_a_device_that_is_not_there_is_named(make_job):
    if torch.cuda.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(RecalibError, match="accelerator 'cuda', devices 1: "):
        run(replace(make_job(), accelerator="cuda"))


def test_a_precision_that_the_device_does_not_train_in_is_refused(make_job):
    with pytest.raises(RecalibError, match="precision '16-mixed': a CPU does not train in it; --precision bf16-mixed"):
        run(make_job(precision="16-mixed"))


def test_two_processes_do_not_write_one_folder(make_job, processes):
    job = make_job(epochs=200)
    first = processes.Process(target=run_in_process, args=(job,))
    first.start()
    while not (job.folder / "last.pt").exists() and first.is_alive():
        time.sleep(0.01)
    with pytest.raises(RecalibError, match=f"is being written by process {first.pid} on "):
        run(job, resume=True)
    first.kill()
    first.join()
    with pytest.raises(RecalibError, match="begun with other settings: momentum"):  # it is not locked any longer
        run(replace(job, recipe=replace(job.recipe, momentum=0.5)), resume=True)


def test_a_run_says_what_it_is_before_the_first_step_and_what_came_of_it_at_the_end(make_job, capsys):
    job = make_job(epochs=1, limit=4, eval_limit=1, attention="se", batch=2)
    run(
        replace(
            job,
            preset={"classification": "cifar-paper", "detection": "coco-1x", "segmentation": "coco-deeplab"}[job.task],
        )
    )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "device: cpu, 1 process, 32-true"
    there = {
        "classification": ("50,000", "10,000", 10), "detection": ("6", "2", 2), "segmentation": ("6", "2", 3),
    }[job.task]  # fmt: skip
    assert "4 training images (of {}), 1 test images (of {}), {} classes".format(*there) in said[1]
    assert re.fullmatch(rf"network: {job.recipe.model} with se, [\d,]+ parameters", said[2])
    assert "epochs 1 (not " in said[3]
    assert "batch 2 (not " in said[3]
    assert said[4] == f"folder: {job.folder}, seed 0"
    end = "\n".join(said[5:])
    assert re.search(r"finished in 0 min \d+ s, 1 epochs: (top-1|AP|no AP|mean IoU)", end)
    assert f"note: trained on 4 of {there[0]} images" in end
    assert f"note: evaluated on 1 of {there[1]} images" in end
    assert f"next: {job.next_command()}" in end
    assert read_facts(job.folder)["train_images"] == 4
    assert read_facts(job.folder)["parameters"] > 1000


def test_going_on_says_from_where_and_a_finished_run_says_so(make_job, capsys):
    job = make_job(epochs=2)
    run(job)
    longer = {**read_state(job.folder / "last.pt"), "epoch": 1}
    torch.save(longer, job.folder / "last.pt")
    capsys.readouterr()
    run(job, resume=True)
    assert "going on from epoch 1 of 2, step 0" in capsys.readouterr().out
    run(job, resume=True)
    said = capsys.readouterr().out
    assert "was finished before, 2 epochs: " in said
    assert "epoch 1: train loss" not in said


def test_rows_of_steps_stand_between_those_of_epochs(make_job):
    job = make_job(epochs=1, log_every=1, batch=2, limit=6)
    outcome = run(job)
    *steps, epoch = read_metrics(job.folder)
    assert [(row["step"], row["epoch"]) for row in steps] == [(1, 0), (2, 0)]
    assert all(row["step_loss"] > 0 for row in steps)
    last = 3 * epoch["train_loss"] - sum(row["step_loss"] for row in steps)
    assert last == pytest.approx(read_losses(job)[2], rel=1e-5)
    assert outcome.metrics == {**epoch}


def read_losses(job):
    """The loss of every step, by a run of its own."""
    seen, original = [], Trainer._count

    def counted(self, loss, figures, size):
        seen.append(float(loss.detach()))
        original(self, loss, figures, size)

    Trainer._count = counted
    try:
        run(replace(job, name="again"))
    finally:
        Trainer._count = original
    return seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": ("kernel_size=5",)}, "kernel_size=5: belongs to an attention module; name one with --attention"),
        ({"identity": True}, "identity: belongs to an attention module; name one with --attention"),
        ({"warmup": 5, "warmup_epochs": 1.0}, "warmup 5 and warmup_epochs 1: give one of the two"),
        ({"freeze_norms": True, "trained": "attention+norms"}, "norms are either frozen or trained"),
    ],
)
def test_what_would_be_ignored_is_refused(make_job, changes, message):
    with pytest.raises(RecalibError, match=re.escape(message)):
        make_job(**changes)


def test_a_folder_that_cannot_be_written_to_is_one_line(make_job, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkFailed, match=r"file/run cannot be made: Not a directory"):
        run(replace(make_job(), out=tmp_path / "file"))


def test_a_longer_training_from_a_finished_run_ends_as_one_of_so_many_epochs(make_job):
    short, whole = make_job("short", epochs=1, ema=0.9), make_job("whole", epochs=2, ema=0.9)
    run(short)
    run(whole)
    wanted = replace(short, name=None, recipe=replace(short.recipe, epochs=2))
    job = longer(wanted, short.folder)
    assert job.folder.name == "short-to2"
    run(job, resume=True)
    assert_same(result_of(job), result_of(whole))
    assert longer(wanted, short.folder, resume=True) == job
    with pytest.raises(RecalibError, match=r"short-to2 holds a run already; add --resume"):
        longer(wanted, short.folder)
    with pytest.raises(RecalibError, match=r"short has 1 epochs: give more by --epochs, not 1"):
        longer(short, short.folder)
    with pytest.raises(RecalibError, match=r"attention: a longer training has those of .*short"):
        longer(replace(wanted, recipe=replace(wanted.recipe, attention="eca")), short.folder)
