"""Maps (N, C, L) and (N, C, D, H, W): a gate on moments does to them what it does to the same pixels in a column."""

import pytest
import torch
from torch import nn

import recalib
from recalib.attention.base import Attention
from recalib.ops import recalibrate
from recalib.surgery.build import build

SHAPES = {1: (3, 8, 24), 3: (3, 8, 2, 3, 4)}
GATES = [name for name in recalib.attention_names() if isinstance(recalib.create_attention(name, 8), Attention)]
PLANAR = ["bam", "cbam", "coord", "ela", "fca", "triplet"]
OF_PIXELS = [name for name in recalib.attention_names() if name not in (*GATES, *PLANAR)]


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("name", [*GATES, *OF_PIXELS])
def test_a_gate_sees_pixels_and_not_their_arrangement(name, dims):
    torch.manual_seed(0)
    attention = recalib.create_attention(name, 8).double().eval()
    for p in attention.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(SHAPES[dims], dtype=torch.double, requires_grad=True)
    y = attention(x)
    torch.testing.assert_close(y, attention(x.reshape(3, 8, 6, 4)).reshape(x.shape))
    assert torch.autograd.gradcheck(attention, x, fast_mode=True)


@pytest.mark.parametrize("name", ["gc", "scse", "se", "own"])
def test_an_identity_start_is_one_in_every_dimension(name):
    x = torch.randn(SHAPES[3])
    if name == "own":  # a module of the user's own, for maps of its own kind
        module = build(lambda channels: nn.Conv3d(channels, channels, 1), 8, {"identity": True}, x)
    else:
        module = recalib.create_attention(name, 8, identity=True)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("name", PLANAR)
def test_a_mechanism_of_rows_and_columns_is_refused_elsewhere(name):
    model = nn.Sequential(*(nn.Conv3d(8, 8, 1) for _ in range(4)))
    with pytest.raises(recalib.RecalibError, match=rf"{name} is of rows and columns.* \(N, C, D, H, W\)"):
        recalib.insert_(model, name, where="convs")
    assert not recalib.remove_(model).placements
    with pytest.raises(recalib.RecalibError, match=r"recalibrates maps \(N, C, H, W\), got \(3, 8, 24\)"):
        recalib.create_attention(name, 8)(torch.randn(SHAPES[1]))


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_a_tail_is_its_modules_one_after_the_other(dims, training):
    torch.manual_seed(0)
    norm = getattr(nn, f"BatchNorm{dims}d")(8).train(training)
    attention = recalib.create_attention("se", 8)
    x, residual = torch.randn(SHAPES[dims]), torch.randn(SHAPES[dims])
    expected = (attention(norm(x)) + residual).relu()
    norm.reset_running_stats()
    torch.testing.assert_close(recalibrate(x, norm, attention, residual), expected)
    plain = getattr(nn, f"Conv{dims}d")(8, 8, 1)
    torch.testing.assert_close(recalibrate(x, None, plain, residual, "none"), plain(x) + residual)


def network(dims):
    conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv(8, 8, 3, padding=1), norm(8)

        def forward(self, x):
            return (x + self.norm(self.conv(x))).relu()

    torch.manual_seed(0)
    return nn.Sequential(conv(8, 8, 1), Block(), Block())


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("name", ["srm", "gc", "simam"])
def test_insertion_and_deployment_follow(name, dims, lively):
    model = lively(network(dims)).eval()
    x = torch.randn(SHAPES[dims])
    expected = model(x)
    assert len(recalib.insert_(model, name, identity=True).sites) == 2
    assert torch.equal(model(x), expected)
    lively(model)
    deployed = recalib.deploy(model, x)
    torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-5)
    assert deployed.about.parts == ("",)


def test_cost_follows():
    one, three = (recalib.cost(network(dims), shape) for dims, shape in SHAPES.items())
    pixels = 3 * 24
    assert one.macs == pixels * 8 * 8 * (1 + 3 + 3)
    assert three.macs == pixels * 8 * 8 * (1 + 27 + 27)
    with pytest.raises(recalib.RecalibError, match="positive numbers"):
        recalib.cost(network(1), (3, 8))


@pytest.mark.parametrize(("dims", "free"), [(1, ("batch", "length")), (3, ("depth",))])
def test_export_follows(dims, free, lively, tmp_path):
    model = lively(network(dims)).eval()
    recalib.insert_(model, "scse")
    report = recalib.export(model, (2, *SHAPES[dims][1:]), tmp_path / "net.onnx", dynamic=free)
    assert report.dynamic == free
    assert report.difference < 1e-5
    with pytest.raises(recalib.RecalibError, match="unknown axis"):
        recalib.export(model, SHAPES[dims], tmp_path / "net.onnx", dynamic=("time",))
