"""Every block of Python in the README and the docs runs, in order, as a reader would type it."""

import re
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import recalib

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCKS = {str(file.relative_to(ROOT)): re.findall(r"^```python\n(.*?)^```$", file.read_text(), re.M | re.S)
          for file in DOCUMENTS}  # fmt: skip
ELSEWHERE = {"docs/ultralytics.md": "needs YOLO's weights: tests/integrations runs the same calls without them"}


def small_network():
    torch.manual_seed(0)
    return recalib.cifar_resnet(8, attention="se").eval()


def checkpoints(folder):
    eca = timm.create_model("resnet50")
    recalib.insert_(eca, "eca", kernel_size=(3, 5, 5, 7))
    for name in ("eca_resnet50_k3557.pth.tar", "checkpoint.pth.tar"):
        torch.save({"state_dict": eca.state_dict()}, folder / name)
    torch.save({"state_dict": recalib.cifar_resnet(20).state_dict()}, folder / "resnet20.th")
    return {"mine": timm.create_model("resnet50")}


def export(folder):
    recalib.save_checkpoint(small_network(), folder / "mine.safetensors")
    images = [folder / f"{i}.png" for i in range(3)]
    for i, image in enumerate(images):
        Image.new("RGB", (32, 32), (80 * i, 40, 200)).save(image)
    return {"path": folder / "mine.onnx", "images": images, "model": timm.create_model("resnet18").eval()}


def study(folder):
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {"recalib": recalib, "model": small_network(), "images": images, "labels": torch.arange(8)}


MEASURED = {"docs/study.md"}  # takes its time
WORLDS = {"docs/checkpoints.md": checkpoints, "docs/export.md": export, "docs/study.md": study}


@pytest.fixture
def offline(monkeypatch):
    """Networks of timm have fresh weights: nothing is downloaded."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **options: create(name, **options))


@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore::UserWarning")  # a new classifier, no trackers: what the documents say
@pytest.mark.parametrize(
    "document",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in MEASURED)) for name, blocks in BLOCKS.items() if blocks],
)
def test_the_blocks_run_one_after_the_other(document, tmp_path, monkeypatch):
    if document in ELSEWHERE:
        pytest.skip(ELSEWHERE[document])
    monkeypatch.chdir(tmp_path)
    names = WORLDS.get(document, lambda _: {})(tmp_path)
    for i, block in enumerate(BLOCKS[document], 1):
        exec(compile(block, f"{document}, block {i}", "exec"), names)
