"""Commands on a Ray cluster: found a place by kind, told, brought home, lost with their node; a real cluster of two."""

import json
import socket
import time
from pathlib import Path

import pytest
from tests.cluster import add_node, two_nodes

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import on_ray
from recalib.runs.executor import Command, Here, to_the_end
from recalib.runs.on_ray import OnRay, is_of_kind

pytest.importorskip("ray")

H100 = {"Resources": {"CPU": 8, "GPU": 2, "accelerator_type:NVIDIA-H100": 1}, "Labels": {"zone": "b"}}
PLAIN = {"Resources": {"CPU": 8, "fpga": 1}, "Labels": {}}


@pytest.mark.parametrize(
    ("kind", "there"),
    [
        ("gpu", [H100]), ("cpu", [PLAIN]), ("gpu:h100", [H100]), ("gpu:a100", []), ("gpu:h10", []), ("zone=b", [H100]),
        ("zone=c", []), ("fpga", [PLAIN]), ("tpu", []),
    ],
)  # fmt: skip
def test_nodes_are_chosen_by_kind(kind, there):
    assert [node for node in (H100, PLAIN) if is_of_kind(node, kind)] == there


def test_a_kind_of_node_is_nothing_without_a_cluster():
    with pytest.raises(RecalibError, match="add --engine ray"):
        Here().start(Command(("modules",), on="gpu"))


def test_an_address_where_nothing_listens_is_one_line_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(WorkFailed, match=rf"no Ray cluster answers at {address}: start one with .*refused"):
        OnRay(address)
    assert time.monotonic() - began < 60


def test_an_address_that_is_silent_is_one_line_in_bounded_time(monkeypatch):
    monkeypatch.setattr(on_ray, "ANSWER", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(WorkFailed, match="no Ray cluster answers at 127"):
            OnRay(f"127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def executor(cluster):
    return OnRay(cluster.address)


@pytest.mark.slow
def test_a_commands_folder_is_brought_along_and_home(executor, tmp_path, capsys):
    (tmp_path / "before.txt").write_text("kept")
    words = ("cost", "resnet20", "--json", "{out}/cost.json")
    asked = Command(words, name="recalib cost", on="kind=measures", alone=True, folder=tmp_path)
    assert to_the_end(executor, asked, asked) == 0
    assert json.loads((tmp_path / "cost.json").read_text())["cells"][0]["params"] > 0
    assert (tmp_path / "before.txt").read_text() == "kept"
    assert "resnet20" in capsys.readouterr().out


@pytest.mark.slow
def test_an_error_comes_back_as_a_status_and_a_line(executor, tmp_path):
    log = tmp_path / "log.txt"
    asked = Command(("cost", "resnet21x"), log=log)
    assert to_the_end(executor, asked, asked) == 2
    assert "unknown" in log.read_text()


@pytest.mark.slow
def test_what_no_node_has_is_told_with_what_there_is(executor):
    with pytest.raises(RecalibError, match=r"--on gpu:h100: no node of the cluster at .*; there are .*kind=measures"):
        executor.start(Command(("modules",), on="gpu:h100"))
    with pytest.raises(RecalibError, match="8 GPUs and 1 CPUs: no node"):
        executor.start(Command(("modules",), gpus=8))


@pytest.mark.slow
def test_measurements_on_a_node_take_turns(executor, tmp_path):
    """Two that are to be alone on the same node: the second begins when the first has ended."""
    words = ("--help",)
    both = [Command(words, on="kind=measures", alone=True, folder=tmp_path / name) for name in "ab"]
    running = [executor.start(one) for one in both]
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    while len(ended) < 2:
        for i, one in enumerate(running):
            if one.poll() is not None:
                ended.setdefault(i, time.monotonic())
            if one.asked is not None:
                began.setdefault(i, time.monotonic())
        time.sleep(0.05)
    first, second = sorted(began, key=began.__getitem__)
    assert began[second] >= ended[first]


@pytest.mark.slow
def test_a_command_ends_with_its_node(cluster, executor, tmp_path):
    node = add_node(cluster, "dies")
    words = ("latency", "cifar_resnet20", "--size", "32", "--runtime", "eager", "--processes", "1", "--rounds", "400",
             "--attention", "eca", "--threads", "1", "--out", "{out}")  # fmt: skip
    running = executor.start(Command(words, on="kind=dies", alone=True, folder=tmp_path))
    while running.asked is None:
        assert running.poll() is None
        time.sleep(0.05)
    _wait(lambda: _processes_of("cifar_resnet20"))
    [process] = _processes_of("cifar_resnet20")
    cluster.remove_node(node, allow_graceful=False)
    _wait(lambda: running.poll() is None and running.lost)
    _wait(lambda: not process.exists())


def _processes_of(word):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if word in words and "recalib" in words:
            found.append(entry)
    return found


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
