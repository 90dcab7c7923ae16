"""`recalib export` of networks that are no classifiers, by name."""

import json

import pytest
import torch

import recalib
from recalib.cli import main

MINE = """
from torch import nn
class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 21, 1)
    def forward(self, x):
        x = self.stem(x)
        return {"out": self.head(x + self.conv(x))}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_segmenter.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return "mine_segmenter:Segmenter"


def test_a_segmentation_network_keeps_the_names_of_its_outputs_and_axes(mine, tmp_path, capsys):
    command = ["export", mine, "--attention", "eca", "--size", "32", "--dynamic", "--out", "seg.onnx"]
    assert main([*command, "--json", "done.json"]) == 0
    done = json.loads((tmp_path / "done.json").read_text())
    assert (done["outputs"], done["dynamic"]) == (["out"], ["batch", "height", "width"])
    assert done["difference"] <= 1e-4
    said = capsys.readouterr().out
    assert "outputs out, free axes: batch, height, width" in said
    assert "random weights" in said
    assert recalib.open_exported("seg.onnx")(torch.randn(2, 3, 48, 32))["out"].shape == (2, 21, 48, 32)


@pytest.mark.parametrize("more", [["--precision", "int8"], ["--images", "."]])
def test_what_only_a_classifier_has_is_refused_in_one_line(more, mine, capsys):
    assert main(["export", mine, *more]) != 0
    assert f"{mine} gives a dict, where a classifier gives logits" in capsys.readouterr().err
