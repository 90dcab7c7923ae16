"""The wider law in few passes equals operator after operator, in float64, forward and in every gradient."""

import sys

import pytest
import torch
from torch import nn

from recalib import RecalibError, attention_names, create_attention
from recalib.attention import BroadcastAttention
from recalib.ops import Gates, Step, broadcast
from recalib.ops.broadcast import composed

C = 6
NAMES = [name for name in attention_names() if isinstance(create_attention(name, C), BroadcastAttention)]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def always(monkeypatch):
    """Few passes whatever the size, in slabs of two images."""
    monkeypatch.setattr(sys.modules["recalib.ops.broadcast"], "WORTHWHILE", 0)
    monkeypatch.setattr("recalib.ops.broadcast_torch._SLAB", 2 * C * 5 * 4 // torch.get_num_threads())


def made(name, training=True, **options):
    torch.manual_seed(0)
    module = create_attention(name, C, **options).double().train(training)
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    return module


def outcome(run, x, module):
    blend = None if module.blend is None else (module.blend.weight, module.blend.bias)
    y = run(x, module.steps(), blend)
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], cotangent), *module.buffers()]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("identity", [False, True], ids=["plain", "blended"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NAMES)
def test_few_passes_are_the_composition(name, training, identity, layout, always):
    x = torch.randn(5, C, 5, 4, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    module, same = made(name, training, identity=identity), made(name, training, identity=identity)
    got = outcome(lambda x, steps, blend: broadcast(x, steps, blend, tuple(module.parameters())), x, module)
    for a, b in zip(got, outcome(composed, x, same), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert got[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_pass_gradcheck(name, always):
    module = made(name, False, identity=True)
    x = torch.randn(3, C, 5, 4, dtype=torch.double, requires_grad=True)
    parameters = tuple(module.parameters())
    blend = module.blend.weight, module.blend.bias
    assert torch.autograd.gradcheck(lambda x, *_: broadcast(x, module.steps(), blend, parameters), (x, *parameters))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_map_is_kept_for_backward(name, always):
    module, x = made(name), torch.randn(5, C, 5, 4, dtype=torch.double, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        module(x)
    assert sum(size >= x.numel() for size in kept) == 1


def test_frozen_parameters_and_maps_without_gradient_are_left_out(always):
    module, x = made("cbam"), torch.randn(5, C, 5, 4, dtype=torch.double)
    module.fc1.requires_grad_(False)
    module(x).sum().backward()
    assert module.fc1.weight.grad is None
    assert module.conv.weight.grad is not None
    assert x.grad is None


def test_gates_are_computed_once_a_step(always):
    module, before = made("cbam"), 0
    module(torch.randn(5, C, 5, 4, dtype=torch.double, requires_grad=True)).sum().backward()
    assert module.bn.num_batches_tracked == before + 1


def test_a_step_that_answers_with_something_else_is_refused():
    x = torch.randn(1, C, 3, 3)
    for answer in (x, Gates()):
        with pytest.raises(RecalibError, match="returns Gates"):
            broadcast(x, [Step(("mean",), lambda _, answer=answer: answer)])


def test_a_second_step_behind_gates_of_rows_is_right_too(always):
    """No form of few passes: the plain composition."""
    x = torch.randn(2, C, 5, 4, dtype=torch.double, requires_grad=True)
    steps = [
        Step(("row_mean",), lambda s: Gates((s.row_mean.unsqueeze(3).sigmoid(),))),
        Step(("pixel_mean",), lambda s: Gates((s.pixel_mean.unsqueeze(1).sigmoid(),))),
    ]
    x1 = x * x.mean(3, keepdim=True).sigmoid()
    torch.testing.assert_close(broadcast(x, steps), x1 * x1.mean(1, keepdim=True).sigmoid())
    with pytest.raises(RecalibError, match="one factor of shape"):
        broadcast(x, [steps[0]._replace(of_channels=True), steps[1]])


def test_under_autocast_statistics_and_gates_stay_in_float32():
    module, x = create_attention("simam", C), 300 * torch.randn(2, C, 8, 8)  # squares beyond float16
    with torch.autocast("cpu", dtype=torch.float16):
        torch.testing.assert_close(module(x.half()).float(), module(x), rtol=2e-3, atol=0.2)
