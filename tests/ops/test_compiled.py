"""Every kernel through Triton's own path to a launch, compiled for Hopper: nothing fails, no register is spilled."""

import copy
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="Triton is not installed")

import triton
from tests.ops.stand_in import PROCESSORS, StandIn, resources

from recalib import create_attention
from recalib.ops import (
    broadcast,
    broadcast_kernels,
    fold_triton,
    gates_triton,
    gemm_triton,
    passes,
    passes_triton,
    plans_triton,
    triton_kernels,
)

SITES = {256: 56, 512: 28, 1024: 14, 2048: 7}  # channels and sides of the tails of a ResNet-50
NARROW = {24: 28, 96: 14, 16: 32}  # of a MobileNetV2 and of a CIFAR ResNet
GATES = ("ab", "eca", "srm", "gct", "se", "multi_se")
BROADCAST = ("cbam", "triplet", "simam", "coord", "fca")
LAYOUTS = (torch.channels_last, torch.contiguous_format)
STACK = 32  # bytes: what a kernel of many operands keeps of them, not of its values


@pytest.fixture
def driver(monkeypatch, tmp_path):
    driver = StandIn(records=False)
    monkeypatch.setattr(passes, "has_kernels", lambda _: True)
    monkeypatch.setattr(sys.modules["recalib.ops.broadcast"], "WORTHWHILE_ON_GPU", 0)
    for module in (passes_triton, gemm_triton):
        monkeypatch.setattr(module, "processors", lambda _: PROCESSORS)
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    for module in (triton_kernels, broadcast_kernels, gates_triton, fold_triton, gemm_triton):
        for kernel in vars(module).values():
            if isinstance(kernel, triton.JITFunction):
                kernel.device_caches.clear()  # of earlier tests, whose kernels were loaded into another stand-in
    yield driver
    names = set()
    for name, machine_code in driver.cubins:
        registers, stack, local = resources(machine_code, tmp_path)
        assert registers <= 255
        assert local == 0, f"{name} spills {local} bytes"
        assert stack <= STACK, f"{name} keeps {stack} bytes on its stack"
        names.add(name)
    assert names


def empty(*shape, dtype=torch.bfloat16, layout=torch.channels_last):
    return torch.empty(shape, dtype=dtype, memory_format=layout)


def tails(name, shape, dtype=torch.bfloat16, layout=torch.channels_last, with_norm=False):
    """A tail at inference, compiled as it is first launched."""
    gate = create_attention(name, shape[1]).eval()
    norm = nn.BatchNorm2d(shape[1]).eval() if with_norm else None
    x, r = (empty(*shape, dtype=dtype, layout=layout) for _ in range(2))
    launches = plans_triton.plan(x, norm, gate, r, True)
    if launches is not None:
        launches(x, r)


def compiled_passes(shape, dtype, layout, order=2):
    """A training tail's passes forward and backward."""
    x, r, dy = (empty(*shape, dtype=dtype, layout=layout) for _ in range(3))
    stats = passes_triton.moments(x, order)
    scale, shift, centre = torch.empty_like(stats[0]), torch.empty_like(stats[0]), torch.empty_like(stats[0, 0])
    y = passes_triton.integrate(x, centre, scale, shift, r, True)
    dm, _ = passes_triton.mask_and_reduce(dy, y, x if order == 2 else None, centre, True)
    passes_triton.differentiate(dm, scale, x if order == 2 else None, stats, stats)


@pytest.mark.parametrize("name", GATES)
def test_tails_of_a_resnet50_at_inference(name, driver):
    tails(name, (1, 1024, 14, 14))


@pytest.mark.slow
@pytest.mark.parametrize("with_norm", [False, True], ids=["deployed", "as inserted"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", GATES)
def test_tails_at_inference_in_every_site_and_batch(name, dtype, with_norm, driver):
    for channels, side in (SITES | NARROW).items():
        for images in (1, 8, 64):
            tails(name, (images, channels, side, side), dtype, with_norm=with_norm)
        tails(name, (1, channels, side, side), dtype, torch.contiguous_format, with_norm)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels_last", "NCHW"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_passes_of_training(dtype, layout, driver):
    for channels, side in (SITES | NARROW).items():
        for images in (1, 32):
            compiled_passes((images, channels, side, side), dtype, layout)
    compiled_passes((2, 256, 56, 56), dtype, layout, order=1)


def trained(name, shape, dtype=torch.bfloat16, layout=torch.channels_last, identity=False):
    """Gates that are broadcast over a map, forward and backward."""
    gate, x = create_attention(name, shape[1], identity=identity), empty(*shape, dtype=dtype, layout=layout)
    blend = None if gate.blend is None else (gate.blend.weight, gate.blend.bias)
    y = broadcast(x.requires_grad_(), gate.steps(), blend, tuple(gate.parameters()))
    y.backward(y.detach())


def test_gates_of_rows_columns_and_pixels_in_training(driver):
    trained("triplet", (1, 1024, 14, 14), identity=True)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels_last", "NCHW"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", BROADCAST)
def test_gates_that_are_broadcast_in_every_site(name, dtype, layout, driver):
    for channels, side in (SITES | NARROW).items():
        for images in (1, 16):
            trained(name, (images, channels, side, side), dtype, layout, identity=images == 1)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 8, 256])
def test_what_stands_between_the_passes(images, driver):
    stats, c = torch.empty(2, images, 256), torch.empty(256)
    for given in (None, c):
        scale, centre, variance, moments = fold_triton.normalize(stats, given, given, c, c, 1e-5, 2)
        gradients = torch.empty_like(c), torch.empty_like(c), torch.empty_like(moments)
        fold_triton.normalize_backward(stats, centre, variance, scale, 1e-5, given is not None, *gradients)
    for gate in (None, stats[0]):
        fold_triton.combine(c, c, gate, None, images)
        fold_triton.combine_backward(c, c, gate, stats[0], stats[1])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_convolution_with_an_epilogue(dtype, driver):
    for channels, side in SITES.items():
        for images in (1, 64):
            h, y = (
                empty(images, channels // 4, side, side, dtype=dtype),
                empty(images, channels, side, side, dtype=dtype),
            )
            weight, bias = torch.empty(channels, channels // 4, dtype=dtype), torch.empty(channels, dtype=dtype)
            scale = torch.empty(images, channels)
            gemm_triton.launch(h, weight, bias, scale, None, copy.copy(y), y, True)
