"""A sweep on a cluster keeps its promise: a node and the program that began it are killed, and nothing changes."""

import json
import subprocess
import sys
import time

import pytest
import yaml
from tests.cluster import add_node, two_nodes

from recalib.cli import main
from recalib.errors import WorkFailed
from recalib.runs.executor import Command
from recalib.study.sweep import Sweep
from recalib.study.sweep_cluster import sweep_on

SPACE = {
    "method": "bayes",
    "metric": {"name": "loss"},
    "parameters": {
        "att": {"values": ["ECA", "SE"]},
        "arch": {"value": "cifar_resnet8"},
        "batch_size": {"value": 16},
        "lr": {"distribution": "log_uniform_values", "min": 0.01, "max": 0.5},
    },
}


class Pretended:
    """A cluster whose nodes go wrong as they are told."""

    queues = True

    def __init__(self, *fates):
        self.fates, self.started = [*fates], []

    def start(self, command):
        self.started.append(command.name)
        return self.fates.pop(0)(command)


class Fails:
    lost = False

    def __init__(self, command):
        command.log.write_text("trial 0: ...\nrecalib sweep: the disk is full\n")

    def poll(self):
        return 1

    def stop(self): ...


class IsLost:
    lost = False

    def __init__(self, command): ...

    def poll(self):
        self.lost = True

    def stop(self): ...


def test_a_worker_that_fails_ends_the_sweep_with_what_it_said(tmp_path):
    with pytest.raises(WorkFailed, match=r"^the disk is full$"):
        sweep_on(Pretended(Fails), _unused(tmp_path), Command(("sweep",)), 1)


def test_a_worker_whose_node_is_lost_is_replaced(tmp_path):
    cluster, said = Pretended(IsLost, IsLost, Fails), []
    with pytest.raises(WorkFailed, match="the disk is full"):
        sweep_on(cluster, _unused(tmp_path), Command(("sweep",)), 1, say=said.append)
    assert cluster.started == ["worker 1"] * 3
    assert said == ["the node of worker 1 is lost: another one takes its place"] * 2


@pytest.mark.slow
def test_a_node_and_the_driver_are_killed_and_nothing_changes(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(SPACE))
    command = ["sweep", str(file), "--data", str(cifar), "--trials", "4", "--limit", "60", "--epochs", "6",
               "--holdout", "0.2", "--parallel", "2", "--accelerator", "cpu"]  # fmt: skip
    assert main([*command, "--out", str(tmp_path / "calm")]) == 0
    out = tmp_path / "killed"
    with two_nodes() as cluster:
        there = ["--out", str(out), "--engine", "ray", "--address", cluster.address, "--jobs", "3", "--join"]
        node = add_node(cluster, "dies", 2)
        driver = subprocess.Popen([sys.executable, "-m", "recalib", *command, *there])
        _wait(lambda: len(list(out.glob("trials/*/last.pt"))) > 1)
        cluster.remove_node(node, allow_graceful=False)
        time.sleep(1)
        driver.kill()
        driver.wait()
        assert main([*command, *there]) == 0
    calm, killed = (json.loads((tmp_path / name / "sweep.json").read_text()) for name in ("calm", "killed"))
    assert _told(killed) == _told(calm)
    assert max(trial["attempts"] for trial in killed["trials"]) > 1


def _told(results):
    rows = [{k: t[k] for k in ("index", "state", "params", "values", "curve")} for t in results["trials"]]
    return results["best"]["index"], rows


def _unused(folder):
    """A sweep of which nothing but the folder is asked, for it never begins."""
    return Sweep(space=None, job=None, out=folder / "sweep")


def _wait(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
