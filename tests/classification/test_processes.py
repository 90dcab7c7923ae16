"""Two processes train the network that one trains on the whole batch."""

import os
import socket

import pytest
import torch
from safetensors.torch import load_file

from recalib.classification import feeds, task
from recalib.runs import read_metrics
from recalib.training.lifecycle import run

# Float64 arithmetic errs by 1e-16 an operation: sums in another order stay eight digits below, and a statistic, a
# gradient or a mean over the wrong images eight digits above.
TOLERANCE = 1e-8


def in_float64(patch):
    """Train in float64: what is left between two runs is what they compute, not how they round."""
    build, named = task.build_network, feeds.normalization
    patch.setattr(task, "build_network", lambda *arguments: build(*arguments).double())
    patch.setattr(feeds, "normalization", lambda name: lambda pixels: named(name)(pixels).double())


CASES = (("freeze_norms", "se"), ("sync_batchnorm", "se"), ("sync_batchnorm", "srm"))


def jobs_of(make_job, name, **devices):
    """A job for each case."""
    small = {"label_smoothing": 0.1, "epochs": 1, "limit": 40, "milestones": (), **devices}
    return [make_job("-".join([name, *case]), attention=case[1], **{case[0]: True}, **small) for case in CASES]


def one_of_two(jobs, rank, port):
    """Run jobs as one of their two processes, as launchers do."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    in_float64(pytest.MonkeyPatch())
    for job in jobs:
        run(job)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_equal_one_with_the_whole_batch(make_job, processes, monkeypatch):
    port, by_one, by_two = free_port(), jobs_of(make_job, "one"), jobs_of(make_job, "two", devices=2)
    both = [processes.Process(target=one_of_two, args=(by_two, rank, port)) for rank in (0, 1)]
    for process in both:
        process.start()
    in_float64(monkeypatch)
    for one in by_one:
        run(one)
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    for one, two in zip(by_one, by_two, strict=True):
        weights, expected = (load_file(job.folder / "last.safetensors") for job in (two, one))
        assert expected["conv1.weight"].dtype == torch.float64
        torch.testing.assert_close(weights, expected, rtol=0, atol=TOLERANCE)
        (*_, row), (*_, same) = (read_metrics(job.folder) for job in (two, one))
        assert row["train_loss"] == pytest.approx(same["train_loss"], abs=TOLERANCE)
        assert row["top1"] == same["top1"]
