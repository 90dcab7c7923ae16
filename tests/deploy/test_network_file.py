"""Any network as a file, whatever it gives, and the file as a callable."""

from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import recalib
from recalib import RecalibError
from recalib.errors import WorkFailed

SIZE = (1, 3, 32, 32)


class Segmenter(nn.Module):
    """Gives what it is told to: as torchvision's, a dictionary in which an output has a name."""

    def __init__(self, give):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
        self.attention = recalib.create_attention("se", 8)
        self.give = give

    def forward(self, x):
        y = self.attention(self.norm(self.conv(x))).relu()
        return self.give(self.head(y), y.mean((2, 3)))


GIVES = {
    "ordered": lambda a, b: OrderedDict(out=a, aux=b),
    "nested": lambda a, b: {"maps": [a, (b, None)], "classes": 2},
    "tuple": lambda a, b: (a, b),
    "tensor": lambda a, b: a,
}


@pytest.fixture(scope="module")
def images():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(5))


def same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch-export"])
@pytest.mark.parametrize("give", GIVES)
def test_outputs_come_back_as_they_were(give, to, images, tmp_path):
    model = Segmenter(GIVES[give]).eval()
    path = tmp_path / f"model{ {'onnx': '.onnx', 'openvino': '.xml', 'torch-export': '.pt2'}[to] }"
    report = recalib.export(model, SIZE, path, to=to)
    assert report.difference <= 1e-4
    assert report.shapes == (SIZE,)
    with torch.no_grad():
        same(recalib.open_exported(path)(images), model(images))


def test_arrays_give_arrays_and_axes_have_names(images, tmp_path):
    model = Segmenter(GIVES["ordered"]).eval()
    report = recalib.export(model, SIZE, tmp_path / "net.onnx", dynamic=("width", "batch"))
    assert report.dynamic == ("batch", "width")
    assert report.outputs == ("out", "aux")
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 32, "width"]
    found = recalib.open_exported(tmp_path / "net.onnx")(np.ones((3, 3, 32, 48), np.float32))
    assert isinstance(found["out"], np.ndarray)
    assert found["out"].shape == (3, 2, 32, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "onxn"}, "unknown format 'onxn'; did you mean onnx"),
        ({"to": "openvino"}, "a file for openvino ends in .xml"),
        ({"dynamic": ("hight",)}, "unknown axis 'hight'; did you mean height"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    with pytest.raises(RecalibError, match=message):
        recalib.export(Segmenter(GIVES["tensor"]), SIZE, tmp_path / "net.onnx", **arguments)


def test_a_network_whose_work_depends_on_the_images_is_one_line(tmp_path, capfd):
    """As a detector, which selects boxes."""

    class Selecting(nn.Module):
        def forward(self, x):
            chosen = x[x > 0]
            return chosen if len(chosen) > 3 else x

    for suffix, to in ((".onnx", "onnx"), (".pt2", "torch-export")):
        with pytest.raises(WorkFailed, match=r"depends on what the images show.*model.backbone") as caught:
            recalib.export(Selecting(), (1, 3, 8, 8), tmp_path / f"net{suffix}", to=to)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_tensor_and_what_is_no_file_are_named(tmp_path):
    with pytest.raises(WorkFailed, match="the network gives a set; tensors in tuples, lists and dictionaries do"):
        recalib.export(Segmenter(lambda a, b: {a}), SIZE, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RecalibError, match=r"net.onnx is no file"):
        recalib.open_exported(tmp_path / "net.onnx")
    with pytest.raises(RecalibError, match=r"net.pt is no exported file"):
        recalib.open_exported(tmp_path / "net.pt")
