"""Every mechanism equals its original: the papers' formulas written out plainly, in float64, forward and backward."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recalib import create_attention
from recalib.attention import GCT, GE, SE, SRM, Attention

C = 32


def original_ab(m, x):
    return x + (x.mean((2, 3)) * m.weight)[:, :, None, None]


def original_eca(m, x):
    k = m.conv.kernel_size[0]
    y = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
    y = F.conv1d(y, m.conv.weight, padding=(k - 1) // 2).transpose(-1, -2).unsqueeze(-1)
    return x * y.sigmoid().expand_as(x)


def original_eca_ns(m, x):
    k = m.conv.kernel_size[0]
    y = F.adaptive_avg_pool2d(x, 1)
    y = F.unfold(y.transpose(-1, -3), kernel_size=(1, k), padding=(0, (k - 1) // 2))
    y = F.conv1d(y.transpose(-1, -2), m.conv.weight, groups=C).unsqueeze(-1)
    return x * y.sigmoid()


def original_se(m, x):
    y = F.adaptive_avg_pool2d(x, 1).flatten(1)
    y = F.linear(F.relu(F.linear(y, m.fc1.weight, m.fc1.bias)), m.fc2.weight, m.fc2.bias)
    return x * y.sigmoid()[:, :, None, None]


def original_multi_se(m, x):
    """Three separate branches, as the original's variant that converts to TensorRT."""
    pooled = x.mean((2, 3))
    a = F.linear(pooled, m.assign.weight).softmax(1)
    z = 0
    for i, (w1, w2) in enumerate(zip(m.fc1.weight.chunk(3), m.fc2.weight.chunk(3, 1), strict=True)):
        b1 = None if m.fc1.bias is None else m.fc1.bias.chunk(3)[i]
        b2 = None if m.fc2_bias is None else m.fc2_bias[i]
        z = z + a[:, i : i + 1] * F.linear(F.relu(F.linear(pooled, w1, b1)), w2, b2)
    return x * z.sigmoid()[:, :, None, None]


def original_srm(m, x):
    """The official code: the variance is the unbiased one, with an epsilon under the root."""
    flat = x.flatten(2)
    style = torch.stack([flat.mean(2), (flat.var(2, unbiased=True) + m.eps).sqrt()], 2)
    z = (style * m.weight).sum(2)[:, :, None, None]
    bn = m.bn
    z = F.batch_norm(z, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, m.training, 0.1, bn.eps)
    return x * z.sigmoid()


def original_gct(m, x):
    shape = (1, C, 1, 1)
    e = (x.pow(2).sum((2, 3), keepdim=True) + m.eps).pow(0.5) * m.alpha.view(shape)
    norm = m.gamma.view(shape) / (e.pow(2).mean(1, keepdim=True) + m.eps).pow(0.5)
    return x * (1 + torch.tanh(e * norm + m.beta.view(shape)))


def original_gct_l1(m, x):
    shape = (1, C, 1, 1)
    e = (x if m.after_relu else x.abs()).sum((2, 3), keepdim=True) * m.alpha.view(shape)
    norm = m.gamma.view(shape) / (e.abs().mean(1, keepdim=True) + m.eps)
    return x * (1 + torch.tanh(e * norm + m.beta.view(shape)))


def original_ge_full(m, x):
    y = F.conv2d(x, m.conv.weight, m.conv.bias, groups=C)
    bn = m.bn
    y = F.batch_norm(y, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, m.training, 0.1, bn.eps)
    return x * y.sigmoid()


def normed(bn, z, training):
    return F.batch_norm(z, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, training, 0, bn.eps)


def original_cbam(m, x):
    def mlp(pooled):
        return F.linear(F.relu(F.linear(pooled.flatten(1), m.fc1.weight, m.fc1.bias)), m.fc2.weight, m.fc2.bias)

    x1 = x * (mlp(F.avg_pool2d(x, x.shape[2:])) + mlp(F.max_pool2d(x, x.shape[2:]))).sigmoid()[:, :, None, None]
    return x1 * plane_gate(m, x1, m.training)


def plane_gate(layers, x, training):
    """From the maximum and the mean over the second axis."""
    pooled = torch.cat([x.max(1, keepdim=True)[0], x.mean(1, keepdim=True)], 1)
    z = F.conv2d(pooled, layers.conv.weight, padding=layers.conv.weight.shape[-1] // 2)
    return normed(layers.bn, z, training).sigmoid()


def original_triplet(m, x):
    """The map is turned so that the pooled axis is the second one, gated, and turned back."""
    of_h = x.permute(0, 2, 1, 3)
    of_w = x.permute(0, 3, 2, 1)
    y = x * plane_gate(m.hw, x, m.training)
    y = y + (of_h * plane_gate(m.cw, of_h, m.training)).permute(0, 2, 1, 3)
    return (y + (of_w * plane_gate(m.hc, of_w, m.training)).permute(0, 3, 2, 1)) / 3


def original_simam(m, x):
    n = x.shape[2] * x.shape[3] - 1
    d = (x - x.mean([2, 3], keepdim=True)).pow(2)
    return x * (d / (4 * (d.sum([2, 3], keepdim=True) / n + 1e-4)) + 0.5).sigmoid()


def original_coord(m, x):
    h = x.shape[2]
    z = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], 2)[..., 0]
    z = normed(m.bn, F.conv1d(z, m.conv.weight, m.conv.bias), m.training)
    z = z * F.relu6(z + 3) / 6
    a_h = F.conv1d(z[:, :, :h], m.conv_h.weight, m.conv_h.bias)[..., None].sigmoid()
    a_w = F.conv1d(z[:, :, h:], m.conv_w.weight, m.conv_w.bias)[:, :, None].sigmoid()
    return x * a_w * a_h


def original_bam(m, x):
    c = F.linear(x.mean((2, 3)), m.fc1.weight, m.fc1.bias)
    c = F.linear(F.relu(normed(m.bn, c, m.training)), m.fc2.weight, m.fc2.bias)[:, :, None, None].expand_as(x)
    s = F.relu(normed(m.bns[0], F.conv2d(x, m.convs[0].weight, m.convs[0].bias), m.training))
    for conv, bn in zip(m.convs[1:], m.bns[1:], strict=True):
        s = F.relu(normed(bn, F.conv2d(s, conv.weight, conv.bias, padding=4, dilation=4), m.training))
    return (1 + (c * F.conv2d(s, m.last.weight, m.last.bias).expand_as(x)).sigmoid()) * x


def original_ceca(m, x):
    k = m.conv.kernel_size[0]
    y = F.pad(x.mean((2, 3))[:, None], (k // 2, k // 2), mode="circular")
    return x * F.conv1d(y, m.conv.weight).sigmoid().view(len(x), -1, 1, 1)


def original_ecam(m, x):
    y = F.relu(F.conv1d(x.mean((2, 3))[:, None], m.conv1.weight, m.conv1.bias))
    y = F.conv1d(y, m.conv2.weight, m.conv2.bias, padding=m.conv2.kernel_size[0] // 2)
    return x * y.sigmoid().view(len(x), -1, 1, 1)


def original_ela(m, x):
    def along(z):
        z = F.conv1d(z, m.conv.weight, padding=m.conv.weight.shape[2] // 2, groups=C)
        grouped = z.reshape(len(z), 16, -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        z = ((grouped - mean) / (var + m.norm.eps).sqrt()).reshape(z.shape)
        return (z * m.norm.weight[:, None] + m.norm.bias[:, None]).sigmoid()

    return x * along(x.mean(3)).unsqueeze(3) * along(x.mean(2)).unsqueeze(2)


def original_fca(m, x):
    """The cosines one by one, as the authors' code builds them, after an adaptive average pool."""
    rows, columns = [0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2], [0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2]
    P = m.basis.shape[-1]

    def cosine(t, frequency):
        value = math.cos(math.pi * frequency * (t + 0.5) / P) / math.sqrt(P)
        return value if frequency == 0 else value * math.sqrt(2)

    basis = torch.zeros(C, P, P, dtype=torch.double)
    for i in range(16):
        u, v = rows[i] * (P // 7), columns[i] * (P // 7)
        for h in range(P):
            for w in range(P):
                basis[i * C // 16 : (i + 1) * C // 16, h, w] = cosine(h, u) * cosine(w, v)
    pooled = x if x.shape[2:] == (P, P) else F.adaptive_avg_pool2d(x, (P, P))
    f = (pooled * basis.float()).sum((2, 3))  # their buffer is in float32
    return x * F.linear(F.relu(F.linear(f, m.fc1.weight)), m.fc2.weight).sigmoid()[:, :, None, None]


def original_gc(m, x):
    n, c, h, w = x.shape
    mask = F.conv2d(x, m.mask.weight[..., None, None], m.mask.bias).view(n, 1, h * w).softmax(2)
    context = torch.matmul(x.view(n, 1, c, h * w), mask[..., None]).view(n, c)
    z = F.linear(context, m.fc1.weight, m.fc1.bias)
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + m.norm.eps).sqrt()
    z = F.relu(z * m.norm.weight + m.norm.bias)
    return x + F.linear(z, m.fc2.weight, m.fc2.bias)[:, :, None, None]


def original_scse(m, x):
    c = F.linear(F.relu(F.linear(x.mean((2, 3)), m.fc1.weight, m.fc1.bias)), m.fc2.weight, m.fc2.bias)
    s = F.conv2d(x, m.pixel.weight[..., None, None], m.pixel.bias)
    return x * c.sigmoid()[:, :, None, None] + x * s.sigmoid()


def original_sge(m, x):
    n, c, h, w = x.shape
    g = m.groups
    grouped = x.view(n * g, -1, h, w)
    t = (grouped * F.adaptive_avg_pool2d(grouped, 1)).sum(1, keepdim=True).view(n * g, -1)
    t = t - t.mean(1, keepdim=True)
    t = (t / (t.std(1, keepdim=True) + 1e-5)).view(n, g, h, w)
    t = (t * m.weight[:, None, None] + m.bias[:, None, None]).view(n * g, 1, h, w)
    return (grouped * t.sigmoid()).view(n, c, h, w)


def original_hard_se(m, x):
    z = F.linear(F.relu(F.linear(x.mean((2, 3)), m.fc1.weight, m.fc1.bias)), m.fc2.weight, m.fc2.bias)
    return x * (F.relu6(z + 3) / 6)[:, :, None, None]


CASES = {
    "ab": ("ab", {}, original_ab),
    "bam": ("bam", {}, original_bam),
    "cbam": ("cbam", {}, original_cbam),
    "cbam with a kernel of 3": ("cbam", {"kernel_size": 3, "reduction": 4}, original_cbam),
    "coord": ("coord", {}, original_coord),
    "eca with the paper's kernel": ("eca", {}, original_eca),
    "eca in a circle": ("eca", {"kernel_size": 5, "circular": True}, original_ceca),
    "ecam": ("ecam", {}, original_ecam),
    "ela": ("ela", {}, original_ela),
    "fca on its own size": ("fca", {"size": 14, "reduction": 4}, original_fca),
    "fca on another size": ("fca", {"reduction": 4}, original_fca),
    "gc": ("gc", {"reduction": 4}, original_gc),
    "eca with kernel 7": ("eca", {"kernel_size": 7}, original_eca),
    "eca_ns": ("eca_ns", {"kernel_size": 5}, original_eca_ns),
    "gct l2": ("gct", {}, original_gct),
    "gct l1": ("gct", {"mode": "l1"}, original_gct_l1),
    "ge without parameters": ("ge", {}, lambda m, x: x * F.adaptive_avg_pool2d(x, 1).sigmoid()),
    "ge with a full kernel": ("ge", {"kernel_size": 6}, original_ge_full),
    "multi_se": ("multi_se", {}, original_multi_se),
    "multi_se without biases": ("multi_se", {"bias": False}, original_multi_se),
    "se": ("se", {}, original_se),
    "se without biases": ("se", {"bias": False, "reduction": 4}, original_se),
    "se_var1": ("se_var1", {}, lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "se_var2": ("se_var2", {}, lambda m, x: x * (x.mean((2, 3)) * m.weight).sigmoid()[:, :, None, None]),
    "se_var3": ("se_var3", {}, lambda m, x: x * F.linear(x.mean((2, 3)), m.fc.weight).sigmoid()[:, :, None, None]),
    "scse": ("scse", {}, original_scse),
    "se with a hard sigmoid": ("se", {"gate": "hard_sigmoid"}, original_hard_se),
    "sge": ("sge", {"groups": 8}, original_sge),
    "simam": ("simam", {}, original_simam),
    "srm": ("srm", {}, original_srm),
    "triplet": ("triplet", {}, original_triplet),
}


def size_of(case):
    """Not square, so that rows and columns are told apart, where the mechanism does not want a square."""
    return {"ge with a full kernel": (6, 6), "fca on its own size": (14, 14)}.get(case, (9, 5))


def randomised(name, **options):
    """A module in float64 whose parameters are all in play, not at their zeros of initialisation."""
    torch.manual_seed(0)
    module = create_attention(name, C, **options).double()
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    return module


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_original_forward_and_in_every_gradient(case, training):
    name, options, original = CASES[case]
    module = randomised(name, **options).train(training)
    x = torch.randn(4, C, *size_of(case), dtype=torch.double).add_(0.3).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = original(module, x)
    got = module(x)
    cotangent = torch.randn_like(got)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(got, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", CASES)
def test_an_identity_start_is_exact(case):
    name, options, _ = CASES[case]
    module = create_attention(name, C, identity=True, **options).eval()
    x = torch.randn(2, C, *size_of(case))
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("case", CASES)
def test_an_identity_start_learns(case):
    name, options, _ = CASES[case]
    module = create_attention(name, C, identity=True, **options).train()
    module(torch.randn(2, C, *size_of(case))).square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("name", ["ab", "gc", "gct"])
def test_mechanisms_that_are_the_identity_at_start_say_so_and_bring_no_blend(name):
    module = create_attention(name, C, identity=True)
    assert type(module).identity_at_start
    assert not any("blend" in key for key in module.state_dict())


@pytest.mark.parametrize("size", [(1, 1), (4, 4)], ids=["1x1 maps", "constant maps"])
def test_srm_stays_finite_forward_and_backward_where_the_deviation_is_zero(size):
    module = randomised("srm").train()
    x = torch.full((4, C, *size), 2.0, dtype=torch.double, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_gct_sums_squares_in_float32_under_autocast_where_float16_would_overflow():
    module = GCT(C)
    nn.init.ones_(module.gamma)
    x = torch.full((1, C, 112, 112), 3.0)  # sum of squares 112,896, float16 ends at 65,504
    with torch.autocast("cpu", dtype=torch.float16):
        half = module(x.half())
    torch.testing.assert_close(half.float(), module(x), rtol=2e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_network_keeps_float32_gates(dtype):
    for name in ("ab", "eca", "eca_ns", "se", "multi_se", "srm", "gct", "se_var3"):
        module = create_attention(name, C).eval()
        x = torch.randn(2, C, 7, 7)
        y = module.to(dtype)(x.to(dtype))
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), module.float()(x.to(dtype).float()), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("channels", "kernel"),
    [(8, 3), (64, 3), (96, 3), (128, 5), (320, 5), (512, 5), (1280, 5), (2048, 7), (4096, 7)],
)
def test_the_adaptive_kernel_follows_the_papers_formula(channels, kernel):
    assert create_attention("eca", channels, kernel_size="adaptive").kernel_size == kernel


@pytest.mark.parametrize(("channels", "hidden"), [(8, 1), (16, 1), (64, 4), (2048, 128)])
def test_se_never_reduces_to_nothing(channels, hidden):
    assert SE(channels).fc1.out_features == hidden
    assert create_attention("multi_se", channels).fc1.out_features == 3 * hidden


def test_a_new_mechanism_needs_only_a_gate():
    class Louder(Attention):
        def gate(self, moments):
            return GE(self.channels).gate(moments)._replace(shift=moments.mean)

    x = torch.randn(2, 3, 4, 4)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(Louder(3)(x), x * mean.sigmoid() + mean)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("ecam", {}, "ecam"),
        ("eca", {"circular": True, "kernel_size": "adaptive"}, "ceca"),
        ("eca", {"kernel_size": "adaptive"}, "eca"),
    ],
)
@pytest.mark.parametrize("channels", [16, 64, 512])
def test_timms_own_layers_of_the_same_weights_agree(name, options, theirs, channels):
    ours, timms = create_attention(name, channels, **options).double(), create_attention(f"timm:{theirs}", channels)
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in timms.state_dict().values()]
    timms.load_state_dict(dict(zip(timms.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(3, channels, 5, 4, dtype=torch.double)
    torch.testing.assert_close(ours(x), timms.double()(x), rtol=1e-6, atol=1e-9)  # theirs was loaded in float32


def test_segmentation_models_own_scse_of_the_same_weights_agrees():
    from segmentation_models_pytorch.base.modules import SCSEModule

    ours, theirs = create_attention("scse", 32).double(), SCSEModule(32).double()
    pairs = {"cSE.1": ours.fc1, "cSE.3": ours.fc2, "sSE.0": ours.pixel}
    for key, layer in pairs.items():
        theirs.get_submodule(key).load_state_dict({"weight": layer.weight[..., None, None], "bias": layer.bias})
    x = torch.randn(3, 32, 5, 4, dtype=torch.double)
    torch.testing.assert_close(ours(x), theirs(x))


def test_channels_last_maps_stay_channels_last():
    for name in ("ab", "eca", "se", "srm", "gct"):
        x = torch.randn(2, C, 6, 6).contiguous(memory_format=torch.channels_last)
        assert SRM(C).eval()(x).is_contiguous(memory_format=torch.channels_last)
        assert create_attention(name, C).eval()(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["bam", "cbam", "coord", "srm", "triplet"])
def test_norms_inside_may_be_converted_to_synchronised_ones_on_any_device(name):
    module = create_attention(name, C).double().train()
    x = torch.randn(4, C, 6, 5, dtype=torch.double)
    expected = module(x)
    torch.testing.assert_close(nn.SyncBatchNorm.convert_sync_batchnorm(module)(x), expected)
