"""A training on several machines, one of which is cut off; two network namespaces are the machines."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from examples.cluster.slurm import Machine

from recalib.errors import RecalibError
from recalib.runs import read_metrics
from recalib.training import repeat

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines():
    """Two of them on one wire: their names and addresses."""
    names = [f"recalib{os.getpid()}{i}" for i in (0, 1)]
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "wire0", "netns", names[0], "type", "veth", "peer", "name", "wire1", "netns", names[1])
        for i, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.71.0.{i + 1}/24", "dev", f"wire{i}")
            ip("-n", name, "link", "set", f"wire{i}", "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(names)
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.decode().strip()}")
    yield [(name, f"10.71.0.{i + 1}", f"wire{i}") for i, name in enumerate(names)]
    _remove(names)


def _remove(names):
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_that_is_cut_off_is_done_without(machines, cifar, tmp_path):
    training = ["cifar-paper", "--data", str(cifar), "--out", str(tmp_path), "--name", "run", "--epochs", "40",
                "--model", "cifar_resnet8", "--batch", "20", "--limit", "100", "--device", "cpu", "--save-every", "2",
                "--eval-limit", "20", "--resume"]  # fmt: skip
    meet = f"{machines[0][1]}:29400"
    started = [_torchrun(name, address, wire, meet, training, tmp_path) for name, address, wire in machines]
    try:
        _wait(lambda: len(_epochs(tmp_path)) > 2)
        assert json.loads((tmp_path / "run" / "facts.json").read_text())["processes"] == 2
        ip("-n", machines[1][0], "link", "set", machines[1][2], "down")
        assert started[0].wait(400) == 0, (tmp_path / f"{machines[0][0]}.txt").read_text()[-3000:]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert json.loads((tmp_path / "run" / "facts.json").read_text())["processes"] == 1
    assert Counter(_epochs(tmp_path)) == Counter(range(40))
    rates = {row["lr"] for row in read_metrics(tmp_path / "run") if "train_loss" in row}
    assert len(rates) == 1  # the batch is that of all processes together, and so is its rate


def _torchrun(name, address, wire, meet, training, folder):
    here = {**os.environ, "GLOO_SOCKET_IFNAME": wire, "OMP_NUM_THREADS": "1", "RECALIB_PATIENCE": "30"}
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", meet, "--rdzv-id", "test", "--rdzv-conf",
               f"is_host={int(address in meet)}", "--local-addr", address]  # fmt: skip
    words = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2",
             "--nproc-per-node", "1", "--max-restarts", "5", *meeting, "-m", "recalib", "train", *training]  # fmt: skip
    with (folder / f"{name}.txt").open("w") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env=here)


def _epochs(folder):
    return [row["epoch"] for row in read_metrics(folder / "run") if "train_loss" in row]


def _wait(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_torchrun_starts_one_training(make_job, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(RecalibError, match="name one module and one seed"):
        repeat.run_jobs([make_job()])


@pytest.fixture
def task():
    """One is enough."""
    return "classification"


def test_the_slurm_example_starts_torchrun_on_every_machine():
    words = Machine(("imagenet-klomp", "--data", "DIR"), nodes=4, gpus=8, fewest=2).command()
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert words[words.index("--nnodes") + 1] == "2:4"
    assert words[-6:] == ["recalib", "train", "imagenet-klomp", "--data", "DIR", "--resume"]


def test_the_kubernetes_example_is_a_service_and_an_indexed_job():
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert f"--nnodes=1:{job['spec']['parallelism']}" in container["args"]
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in job["spec"]["template"]["spec"]["volumes"]}
