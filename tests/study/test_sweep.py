"""A sweep's promise: the same seed finds the same, however many workers there were and whatever was killed."""

import errno
import os
import signal
import threading
import time

import pytest
import yaml
from examples.kills import forkserver
from tests.jobs import classification_job

from recalib.classification import recipe
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import atomic
from recalib.runs.trackers import TrackerDown
from recalib.study import sweep as sweep_module
from recalib.study.sweep import Sweep, sweep, with_overrides
from recalib.study.sweep_journal import Journal, Watch, Worker
from recalib.study.sweep_space import read_space

SPACE = {
    "method": "bayes",
    "metric": {"name": "loss"},
    "parameters": {
        "att": {"values": ["ECA", "SE"]},
        "lr": {"distribution": "log_uniform_values", "min": 0.01, "max": 0.5},
    },
    "early_terminate": {"type": "median", "min_trials": 1},
}
TRIALS = 3


def asked(data, folder, **changes):
    """A sweep of seconds; its file is beside its folder."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**SPACE, **changes.pop("space", {})}))
    job = classification_job(data, folder, limit=60, holdout=0.2, save_every=1)
    return Sweep(space=read_space(file, job.recipe), job=job, out=folder, parallel=2, **changes)


def work(data, folder, heartbeat=60.0):
    """What a worker's process does."""
    sweep(asked(data, folder), trials=TRIALS, join=True, heartbeat=heartbeat)


def results_of(results):
    """What must not depend on who ran what when."""
    told = {"images_per_second"}
    rows = [{k: t[k] for k in ("index", "state", "params", "values", "curve")} for t in results["trials"]]
    metrics = [{k: v for k, v in t["metrics"].items() if k not in told} for t in results["trials"]]
    return results["best"]["index"], rows, metrics


@pytest.fixture(scope="module")
def processes():
    """Processes that start with the packages imported, and can be killed for real."""
    context = forkserver()
    context.set_forkserver_preload(["recalib.study.sweep", "tests.jobs", "timm"])
    return context


@pytest.fixture(scope="module")
def calm(cifar, tmp_path_factory):
    """A sweep that nobody disturbs, and what it ends with."""
    folder = tmp_path_factory.mktemp("calm") / "sweep"
    return folder, sweep(asked(cifar, folder), trials=TRIALS)


def test_a_sweep_trains_its_trials_and_names_the_best(calm):
    folder, results = calm
    assert [t["index"] for t in results["trials"]] == list(range(TRIALS))
    complete = [t for t in results["trials"] if t["state"] == "complete"]
    assert results["best"]["values"]["loss"] == min(t["values"]["loss"] for t in complete)
    for trial in results["trials"]:
        assert (folder / trial["run"] / "last.safetensors").exists()
        assert trial["values"].get("loss", trial["metrics"]["holdout_loss"]) == trial["metrics"]["holdout_loss"]


def test_a_worker_that_is_killed_changes_nothing(calm, cifar, tmp_path, processes):
    """One is killed in mid-trial, while another works beside it, which takes its trial over."""
    folder = tmp_path / "sweep"
    first = processes.Process(target=work, args=(cifar, folder))
    first.start()
    _wait(lambda: list(folder.glob("trials/*/last.pt")))
    killing = threading.Timer(0.3, first.kill)
    killing.start()
    results = sweep(asked(cifar, folder), trials=TRIALS, join=True)
    first.join()
    assert first.exitcode == -signal.SIGKILL
    assert results_of(results) == results_of(calm[1])
    assert max(t["attempts"] for t in results["trials"]) == 2
    assert len(list(folder.glob("trials/*"))) == TRIALS


def test_more_trials_may_be_asked_for_later(calm, cifar):
    folder, results = calm
    more = sweep(asked(cifar, folder), trials=TRIALS + 1, join=True)
    assert more["trials"][:TRIALS] == results["trials"]
    assert len(more["trials"]) == TRIALS + 1


def test_a_sweep_that_is_there_is_not_begun_again(calm, cifar):
    with pytest.raises(RecalibError, match="holds a sweep already; add --join"):
        sweep(asked(cifar, calm[0]))


def test_another_space_is_refused_by_what_differs(calm, cifar):
    other = asked(cifar, calm[0], space={"method": "random"})
    with pytest.raises(RecalibError, match='is a sweep with another method: "bayes", now "random"'):
        sweep(other, join=True)
    with pytest.raises(RecalibError, match="is a sweep with another seed: 0, now 7"):
        sweep(asked(cifar, calm[0], seed=7), join=True)


def test_a_signal_stops_a_worker_which_says_how_to_go_on(calm, cifar, tmp_path, monkeypatch):
    trained = sweep_module.run

    def interrupted(job, **options):
        if job.name == "0001":
            os.kill(os.getpid(), signal.SIGTERM)
        return trained(job, **options)

    folder = tmp_path / "sweep"
    monkeypatch.setattr(sweep_module, "run", interrupted)
    results = sweep(asked(cifar, folder), trials=TRIALS)
    assert results["stopped"] == "stopped; the same command with --join goes on"
    monkeypatch.setattr(sweep_module, "run", trained)
    assert results_of(sweep(asked(cifar, folder), trials=TRIALS, join=True)) == results_of(calm[1])


def test_a_trial_that_diverges_is_a_result_and_a_full_disk_is_none(cifar, tmp_path, monkeypatch):
    """The worker ends with the disk's own line, in the middle of the second trial; the first is kept."""
    flushed = atomic._flush

    def full(path):
        if "0001" in str(path) and path.name.startswith(".last.pt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return flushed(path)

    space = {"method": "grid", "parameters": {"lr": {"values": [1e30, 0.01]}}}
    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(WorkFailed, match=r"0001/last.pt could not be written: .*No space left on device") as told:
        sweep(asked(cifar, tmp_path / "sweep", space=space))
    assert "\n" not in str(told.value)
    monkeypatch.setattr(atomic, "_flush", flushed)
    results = sweep(asked(cifar, tmp_path / "sweep", space=space), join=True)
    assert [(t["state"], t["attempts"]) for t in results["trials"]] == [("failed", 1), ("complete", 2)]
    assert "the loss is not finite" in results["trials"][0]["error"]
    assert results["best"]["index"] == 1


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path, cifar, monkeypatch):
    def full(self, logs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
    with pytest.raises(WorkFailed, match=r"sweep could not be written: .*No space left on device; .* are kept"):
        sweep(asked(cifar, tmp_path / "sweep"))


def test_a_tracker_that_is_down_ends_the_worker_and_fails_no_trial(tmp_path, cifar, monkeypatch):
    def refused(*_):
        raise TrackerDown("--track mlflow: http://host: refused; MLFLOW_TRACKING_URI names the server")

    space = {"method": "grid", "parameters": {"lr": {"values": [0.01]}}}
    with monkeypatch.context() as down:
        down.setattr("recalib.training.lifecycle.open_trackers", refused)
        with pytest.raises(TrackerDown, match="names the server"):
            sweep(asked(cifar, tmp_path / "sweep", space=space))
    results = sweep(asked(cifar, tmp_path / "sweep", space=space), join=True)
    assert [(t["state"], t["attempts"]) for t in results["trials"]] == [("complete", 2)]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    journal = Journal(tmp_path, {"seed": 0}, ["minimize"], join=False)
    whole = (tmp_path / "journal.log").read_bytes()
    (tmp_path / "journal.log").write_bytes(whole + b'{"op_code": 4, "stu')
    journal = Journal(tmp_path, {"seed": 0}, ["minimize"], join=True)
    attempt = journal.begin(0, {}, {}, "me", 1)
    again = Journal(tmp_path, {"seed": 0}, ["minimize"], join=True)
    assert [a.id for a in again.attempts()] == [attempt.id]


def test_a_dead_worker_is_seen_at_once_on_its_own_machine(tmp_path, processes):
    watch = Watch(tmp_path, heartbeat=60)
    process = processes.Process(target=_idle, args=(tmp_path,))
    process.start()
    _wait(lambda: any(file.stat().st_size for file in tmp_path.glob("workers/*")))
    [name] = [file.name for file in tmp_path.glob("workers/*")]
    assert watch.alive(name)
    process.kill()
    process.join()
    assert not watch.alive(name)


def test_a_worker_elsewhere_is_dead_when_its_heartbeat_stops(tmp_path):
    watch = Watch(tmp_path, heartbeat=0.2)
    (tmp_path / "workers").mkdir()
    file = tmp_path / "workers" / "far"
    for count in range(4):
        file.write_text(f"another-machine {count:012}\n")
        assert watch.alive("far")
        time.sleep(0.1)
    time.sleep(0.2)
    assert not watch.alive("far")
    assert not watch.alive("never heard of")


def test_adam_does_not_take_the_rate_that_was_meant_for_sgd():
    base = recipe("cifar-paper")
    assert with_overrides(base, {"optimizer": "adam"}).lr == 0.003
    assert with_overrides(base, {"optimizer": "adam", "lr": 0.01}).lr == 0.01
    assert with_overrides(base, {"optimizer": "sgd"}).lr == base.lr


def test_options_of_the_attention_module_are_set():
    made = with_overrides(recipe("cifar-paper"), {"attention": "eca", "options.kernel_size": 5})
    assert made.options == ("kernel_size=5",)


def _idle(folder):
    with Worker(folder, heartbeat=60):
        time.sleep(600)


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
