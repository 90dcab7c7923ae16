"""Detectors that are trained by two processes."""

import json
import os
import socket

from safetensors.torch import load_file

from recalib.data.detection_data import open_detection
from recalib.detection import task
from recalib.detection.average_precision import average_precision
from recalib.detection.checkpoints import load_detector
from recalib.detection.evaluation import detect
from recalib.runs import read_metrics
from recalib.training.lifecycle import run


def one_of_two(job, rank, port, seen):
    """Run a job as one of its two processes, as launchers do, and write what was scored."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    scored = task.summary

    def summary(found, truth):
        seen.write_text(json.dumps([rank, found["bbox"]]))
        return scored(found, truth)

    task.summary = summary
    run(job)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_detect_together_what_one_would_and_the_first_scores_it(make_job, processes, tmp_path):
    job, seen, port = make_job(devices=2, epochs=1), tmp_path / "seen.json", free_port()
    both = [processes.Process(target=one_of_two, args=(job, rank, port, seen)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    detector, _ = load_detector(job.folder)
    found, truth = detect(detector, open_detection(job.data, split="val"))
    assert {each["image_id"] for each in found["bbox"]} == {1, 2}
    assert json.loads(seen.read_text()) == [0, found["bbox"]]
    (row,) = read_metrics(job.folder)
    assert row["AP"] == average_precision(truth, found["bbox"], "bbox")["AP"]
    assert any("running_mean" in name for name in load_file(job.folder / "last.safetensors"))
