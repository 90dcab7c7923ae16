"""`recalib bench` as a user meets it, also on a machine that has little installed."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from recalib.cli import main
from recalib.measure import kernels as bench_kernels
from recalib.measure.targets import TARGETS, Setting
from recalib.runtimes import PROTOCOLS


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small map and a small network in place of a ResNet-50's."""
    monkeypatch.setattr(bench_kernels, "CPU_MAP", (2, 8, 6, 6))
    monkeypatch.setattr(bench_kernels, "WARM_UP_S", 0.0)
    monkeypatch.setitem(PROTOCOLS, "clean", replace(PROTOCOLS["clean"], warm_up_s=0.0))
    group = Setting("cifar_resnet8", "eager", 2, "fp32", 32)
    monkeypatch.setitem(TARGETS, "T4a", replace(TARGETS["T4a"], settings=(group,)))
    monkeypatch.setitem(TARGETS, "T4b", replace(TARGETS["T4b"], settings=()))


def test_the_plan_names_every_target_and_why_one_is_not_measured(capsys):
    assert main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TARGETS)
    for line in lines:
        assert ("needs an NVIDIA GPU" in line) == (line.split()[0] in ("T1", "T2", "T3", "T5", "T6"))
    assert "about 1 min on two cores" in lines[3]


@pytest.mark.usefixtures("in_process")
def test_all_of_it_without_a_gpu(capsys, tmp_path):
    arguments = ["--rounds", "5", "--attention", "se", "timm:se", "--out", str(tmp_path)]
    assert main(["bench", *arguments, "--json", str(tmp_path / "all.json")]) == 0
    out = capsys.readouterr().out
    assert "mask_and_reduce" in out
    assert "cifar_resnet8, eager, batch 2, fp32" in out
    assert "timm:se  as inserted" in out
    results = json.loads((tmp_path / "all.json").read_text())
    assert {cell["module"] for cell in results["cells"]} == {"baseline", "se", "timm:se"}
    assert {"kernels.jsonl", "networks.jsonl"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("in_process")
def test_kernels_or_one_target_alone(capsys, tmp_path):
    assert main(["bench", "--kernels", "--rounds", "5", "--out", str(tmp_path)]) == 0
    assert "cifar_resnet8" not in capsys.readouterr().out
    assert main(["bench", "--targets", "T4a", "--attention", "se", "--rounds", "5", "--out", str(tmp_path)]) == 0
    assert "mask_and_reduce" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--targets", "T9"], ["--targets", "T4a", "--model", "vgg"], ["--rounds", "1"], ["--rounds", "few"]]
)
def test_a_mistake_is_one_line(arguments, capsys):
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


BARE = """
import sys

sys.modules.update(dict.fromkeys({needed}))  # whoever imports one of them fails
from recalib.measure import kernels as bench_kernels
from recalib.measure import run
from recalib.measure.session import measure
from recalib.measure.targets import TARGETS, Setting
from recalib.cli import main
from dataclasses import replace
run.measure_apart = lambda group, how, progress, seconds: measure(group, how, progress, seconds=seconds)
bench_kernels.CPU_MAP = (2, 8, 6, 6)
TARGETS["T4a"] = replace(TARGETS["T4a"], settings=(Setting("cifar_resnet8", "eager", 1, "fp32", 32),))
TARGETS["T4b"] = replace(TARGETS["T4b"], settings=())
sys.exit(main(["bench", "--rounds", "5", "--attention", "se", "timm:eca", "--out", sys.argv[1]]))
"""
ABSENT = ["tyro", "rich", "scipy", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "jinja2", "altair",
          "pandas", "vl_convert", "lightning", "lightning_fabric", "torchmetrics", "pytest", "hypothesis"]  # fmt: skip


def test_it_runs_where_only_torch_torchvision_timm_and_numpy_are_installed(tmp_path):
    program = BARE.format(needed=ABSENT)
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", program, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "differentiate" in run.stdout
    assert "timm:eca  as inserted" in run.stdout
