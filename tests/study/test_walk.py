"""A network run from the middle gives what it gives from the start."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import recalib
from recalib.deploy.graph import trace
from recalib.study.frozen import gates_of
from recalib.study.walk import Walk


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.fixture(params=["resnet18", "mobilenet_v2"])  # with ReLUs that overwrite their operand
def model(request):
    torch.manual_seed(0)
    network = torchvision.models.get_model(request.param, num_classes=5)
    recalib.insert_(network, "se")
    return network.double().eval()


@torch.no_grad()
def test_every_try_is_the_whole_network_with_that_module_replaced(model):
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph = trace(model)
    gates = list(gates_of(graph).items())
    tried = {node: [nn.Identity(), Twice()] for _, node in gates[::5]}
    found = {(str(node.target), i): logits for node, i, logits in Walk(graph).tries(images, tried)}
    assert len(found) == 2 * len(tried)
    for (name, i), logits in found.items():
        changed = copy.deepcopy(model)
        changed.set_submodule(name, [nn.Identity(), Twice()][i])
        torch.testing.assert_close(logits, changed(images), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_whole_walk_is_the_network_and_shows_what_each_gate_reads(model):
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph, seen = trace(model), {}
    gates = gates_of(graph)
    hooks = [model.get_submodule(name).register_forward_hook(lambda m, i, o, n=name: seen.update({n: i[0].clone()}))
             for name in gates]  # fmt: skip
    expected = model(images)
    assert len(hooks) == len(seen)

    def see(node, u):
        if gates.get(str(node.target)) is node:
            torch.testing.assert_close(u, seen.pop(str(node.target)), rtol=1e-12, atol=1e-12)

    torch.testing.assert_close(Walk(graph).logits(images, see), expected, rtol=1e-12, atol=1e-12)
    assert seen == {}
