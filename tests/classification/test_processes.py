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


def one_of_two(job, rank, port):
    """Run a job as one of its two processes, as launchers do."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    in_float64(pytest.MonkeyPatch())
    run(job)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("norms", "attention"), [("freeze_norms", "se"), ("sync_batchnorm", "se"), ("sync_batchnorm", "srm")]
)
def test_two_processes_equal_one_with_the_whole_batch(norms, attention, make_job, processes, monkeypatch):
    one, two = (
        make_job(name, attention=attention, label_smoothing=0.1, **{norms: True}, **devices)
        for name, devices in (("one", {}), ("two", {"devices": 2}))
    )
    port = free_port()
    both = [processes.Process(target=one_of_two, args=(two, rank, port)) for rank in (0, 1)]
    for process in both:
        process.start()
    in_float64(monkeypatch)
    run(one)
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    weights, expected = (load_file(job.folder / "last.safetensors") for job in (two, one))
    assert expected["conv1.weight"].dtype == torch.float64
    torch.testing.assert_close(weights, expected, rtol=0, atol=TOLERANCE)
    (*_, row), (*_, same) = (read_metrics(job.folder) for job in (two, one))
    assert row["train_loss"] == pytest.approx(same["train_loss"], abs=TOLERANCE)
    assert row["top1"] == same["top1"]
