"""What people bring: a dozen networks of five libraries, inserted and deployed; all of them in the slow test."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("networks", Path(__file__).parents[2] / "examples" / "networks.py")
networks = importlib.util.module_from_spec(SPEC)
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


@pytest.mark.slow
def test_every_network_passes_or_is_refused_with_a_reason():
    rows = [networks.row(name) for name in networks.NETWORKS]
    assert len(rows) >= 80
    assert not [found["network"] for found in rows if networks.failures(found)]
    assert sum("refused" in found for found in rows) <= len(rows) / 10
