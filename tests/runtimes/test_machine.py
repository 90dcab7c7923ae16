"""The description of a machine says what a latency depends on, and nothing about whose it is."""

import getpass
import json
import platform
from pathlib import Path

import torch

from recalib.runtimes import Settings, find_protocol
from recalib.runtimes.machine import describe


def described(**changes):
    settings = {"precision": "fp32", "threads": 1, "device": torch.device("cpu"), "protocol": find_protocol("clean")}
    return describe(Settings(**settings | changes))


def test_it_names_processor_threads_versions_precision_and_layout():
    machine = described(threads=3)
    assert machine["device"] == machine["cpu"] != ""
    assert (machine["threads"], machine["precision"]) == (3, "fp32")
    assert machine["layout"].startswith("channels_last")
    assert machine["versions"]["torch"] == torch.__version__
    assert {"onnxruntime", "openvino", "timm", "numpy"} <= set(machine["versions"])
    assert (machine["gpu"], machine["driver"]) == (None, None)


def test_it_is_the_same_again_and_another_with_other_settings():
    assert json.loads(json.dumps(described())) == described()
    assert described(threads=2) != described()
    assert described(protocol=find_protocol("paper")) != described()


def test_it_names_no_host_no_user_and_no_path():
    text = json.dumps(described())
    assert platform.node() not in text
    assert not any(word.strip('",[]{}') == getpass.getuser() for word in text.split())
    assert str(Path.home()) not in text
    assert "/" not in text.replace("GNU/Linux", "")
