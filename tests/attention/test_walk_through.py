"""CONTRIBUTING's walk-through does what it says: its classes are inserted, trained, deployed and exported."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import recalib
from recalib.deploy.classifier import open_classifier, open_exported_classifier
from recalib.deploy.classifier_file import export_classifier, relative_difference

CODE = "\n".join(re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(), re.S))
CLASSES = {}
exec(compile(CODE, "CONTRIBUTING.md", "exec"), CLASSES)
TARGETS = ["eager", "compile", "onnxruntime", "openvino", "tensorrt"]


def formula(module, x):
    """What the docstrings say."""
    m = x.mean((2, 3), keepdim=True)
    if isinstance(module, CLASSES["Narrow"]):
        z = F.linear(F.relu(F.linear(m.flatten(1), module.fc1.weight, module.fc1.bias)), module.fc2.weight)
        return x * (1 + (z + module.fc2.bias).tanh())[:, :, None, None]
    if isinstance(module, CLASSES["Peak"]):
        return x * (module.weight[:, None, None] * (x.amax((2, 3), keepdim=True) - m)).sigmoid()
    return x * (module.slope[:, None, None] * (x - m) ** 2).sigmoid()


def trained(name):
    """A network with the class at every site, after a step of training."""
    torch.manual_seed(0)
    network = recalib.cifar_resnet(11, block="bottleneck")
    recalib.insert_(network, CLASSES[name], identity=name == "Peak")
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    x, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    before = [p.clone() for m in attention_in(network) for p in m.parameters()]
    F.cross_entropy(network(x), labels).backward()
    optimizer.step()
    assert any(
        not torch.equal(p, b)
        for p, b in zip((p for m in attention_in(network) for p in m.parameters()), before, strict=True)
    )
    return network.eval()


def attention_in(network):
    return [m for m in network.modules() if type(m).__name__ in ("Narrow", "Peak", "Pixel")]


@pytest.mark.parametrize("name", ["Narrow", "Peak", "Pixel"])
def test_it_computes_its_formula(name):
    module = CLASSES[name](16).double()
    for p in module.parameters():
        nn.init.normal_(p)
    x = torch.randn(3, 16, 5, 4, dtype=torch.double)
    torch.testing.assert_close(module(x), formula(module, x))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["Narrow", "Peak", "Pixel"])
@torch.no_grad()
def test_it_is_deployed_to_every_target(name, target):
    with torch.enable_grad():
        network = trained(name).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    deployed = recalib.deploy(network, tuple(x.shape), target=target)
    torch.testing.assert_close(deployed(x), network(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["Narrow", "Peak", "Pixel"])
def test_it_is_exported(name, tmp_path):
    network = trained(name)
    about = replace(open_classifier("cifar_resnet8").about, dynamic=True)
    assert export_classifier(network, tmp_path / "net.onnx", about, to="onnx").difference < 1e-5
    run = open_exported_classifier(tmp_path / "net.onnx").network
    for shape in ((1, 3, 32, 32), (7, 3, 37, 21)):
        images = torch.randn(shape)
        with torch.inference_mode():
            assert relative_difference(run(images), network(images).double()) < 1e-4
