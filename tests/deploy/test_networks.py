"""What people bring: a dozen networks of five libraries, inserted and deployed; all of them in the slow test."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("networks", ROOT / "examples" / "networks.py")
networks = sys.modules["networks"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(networks)

DOZEN = (
    "ghostnet_100",
    "rexnet_100",
    "repvgg_a0",
    "ese_vovnet19b_dw",
    "regnetx_004",
    "smp:FPN",
    "smp:DeepLabV3Plus",
    "ultralytics:yolov8n",
    "monai:UNet2d",
    "monai:ResNet3d",
    "torchvision:quantized_resnet18",
    "torchvision:lraspp_mobilenet_v3_large",
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_VERBOSE", "false")


@pytest.mark.parametrize("name", DOZEN)
def test_a_network_takes_attention_and_is_deployed(name):
    found = networks.row(name, targets=("eager",), export=False)
    assert not networks.failures(found)
    assert found["sites"] > 0


def test_the_page_is_what_the_command_writes_of_the_results():
    rows = json.loads((ROOT / "results" / "networks.json").read_text())["rows"]
    assert (ROOT / "docs" / "networks.md").read_text() == networks.page(rows)
    assert not [found["network"] for found in rows if networks.failures(found)]
    assert sum("refused" in found for found in rows) <= max(len(rows) / 10, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_network_passes_or_is_refused_with_a_reason(tmp_path):
    command = [sys.executable, "examples/networks.py", "--json", tmp_path / "rows.json", "--docs", tmp_path / "page.md"]
    subprocess.run([*command, "torchvision:none"], cwd=ROOT, check=True)
    (failed,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert failed["failed"].startswith("RecalibError: unknown model 'torchvision:none'")
    (tmp_path / "rows.json").unlink()
    subprocess.run(command, cwd=ROOT, check=True)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == len(networks.NETWORKS) >= 80
    assert not [found["network"] for found in rows if networks.failures(found)]
    assert sum("refused" in found for found in rows) <= len(rows) / 10
