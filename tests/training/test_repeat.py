"""Many seeds side by side; processes stand in for runs on a GPU, which alone tell their memory."""

import json
import sys
import time

import pytest

from recalib.errors import RecalibError, WorkFailed
from recalib.runs.executor import Here, LocalProcess
from recalib.training import repeat

RUN = """
import json, pathlib, sys, time
folder, row, seconds = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
(folder / "began").write_text(str(time.time()))
(folder / "metrics.jsonl").write_text(json.dumps(row))
time.sleep(seconds)
(folder / "ended").write_text(str(time.time()))
sys.exit(int(row.get("status", 0)))
"""


@pytest.fixture
def task():
    """One is enough: nothing here is a task's own."""
    return "classification"


@pytest.fixture
def at_once(make_job):
    """How many runs of those that tell such a row are under way together, at most, and together with the first."""

    def measure(row, seeds, side_by_side=None):
        class PretendedRuns(Here):
            def start(self, command):
                return LocalProcess([sys.executable, "-c", RUN, command.name, json.dumps(row), "1"])

        jobs = repeat.with_seeds([make_job("run")], seeds)
        repeat.run_jobs(jobs, side_by_side, executor=PretendedRuns())
        folders = [job.folder for job in jobs]
        spans = [[float((f / name).read_text()) for name in ("began", "ended")] for f in folders]
        return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)

    return measure


def test_runs_that_tell_no_memory_go_one_after_another(at_once):
    assert at_once({}, 2) == 1


def test_as_many_runs_go_together_as_the_device_holds_once_the_first_has_told_what_it_takes(at_once):
    assert at_once({"memory_gib": 2.0, "free_gib": 6.0}, 4) == 3


def test_a_number_given_is_kept_to(at_once):
    assert at_once({"memory_gib": 1.0, "free_gib": 80.0}, 3, side_by_side=2) == 2


def test_a_device_that_is_full_holds_the_first_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"memory_gib": 6.0, "free_gib": 1.5}\n')
    assert repeat.fitting(tmp_path) == 1


def test_the_first_epoch_counts_for_others_were_not_yet_there(tmp_path):
    rows = '{"memory_gib": 1.3, "free_gib": 10.0}\n{"memory_gib": 1.3, "free_gib": 0.1}\n'
    (tmp_path / "metrics.jsonl").write_text(rows)
    assert repeat.fitting(tmp_path) == 5


def test_a_run_that_fails_is_named_and_no_other_begun(at_once):
    began = time.monotonic()
    with pytest.raises(WorkFailed, match=r"the run .*run-seed0 failed"):
        at_once({"status": 3}, 5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("seeds", "jobs"), [(0, None), (3, 0)])
def test_none_is_no_number_of_seeds_or_jobs(make_job, seeds, jobs):
    with pytest.raises(RecalibError, match="should be at least 1"):
        repeat.run_jobs(repeat.with_seeds([make_job()], seeds), jobs)


def test_modules_and_seeds_are_crossed_seed_by_seed_and_none_has_no_options(make_job):
    job = make_job("x", attention="eca", options=("kernel_size=5",))
    jobs = repeat.with_seeds(repeat.with_modules(job, [None, "eca"]), 2)
    assert [(j.recipe.attention, j.recipe.options, j.recipe.seed, j.folder.name) for j in jobs] == [
        (None, (), 0, "x-baseline-seed0"), ("eca", ("kernel_size=5",), 0, "x-eca-seed0"),
        (None, (), 1, "x-baseline-seed1"), ("eca", ("kernel_size=5",), 1, "x-eca-seed1"),
    ]  # fmt: skip
    assert repeat.with_seeds(repeat.with_modules(job, []), 1) == [job]


def test_runs_that_would_share_a_folder_are_refused(make_job):
    with pytest.raises(RecalibError, match="several runs would share the folder"):
        repeat.run_jobs([make_job("x"), make_job("x", seed=1)])
