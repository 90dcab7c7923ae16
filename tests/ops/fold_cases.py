"""What every backend's (N, C)-sized operators are held to: autograd through the plain formulas, in float64."""

import torch

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}


def check(backend, images, channels, dtype, device="cpu"):
    """`normalize` and `combine` of a backend, forward and backward, with and without each optional operand."""
    generator = torch.Generator().manual_seed(images + channels)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.double).to(device, dtype)

    stats = torch.stack((draw(images, channels), draw(images, channels).square()))
    gradients = draw(channels), draw(channels), draw(2, images, channels)
    weight, bias = draw(channels), draw(channels)
    for order in (0, 1, 2):
        d_scale, d_mean, d_moments = *gradients[:2], gradients[2][:order]
        check_normalize(backend, stats, weight, bias, order, d_scale, d_mean, d_moments)
        check_normalize(backend, stats, None, None, order, d_scale, d_mean, d_moments)
    gate, offset = draw(images, channels), draw(images, channels)
    for s, t in ((gate, offset), (gate, None), (None, offset), (None, None)):
        check_combine(backend, weight, bias, s, t, draw(images, channels), draw(images, channels))


def check_normalize(backend, stats, weight, bias, order, d_scale, d_mean, d_moments):
    eps = 0.25
    inputs = [t.double().clone().requires_grad_() for t in (stats, weight, bias) if t is not None]
    means, variances = inputs[0].unbind(0)
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    scale = (variance + eps).rsqrt() * (1 if weight is None else inputs[1])
    shift = 0 if bias is None else inputs[2]
    moments = torch.stack((scale * (means - mean) + shift, scale.square() * variances))[:order]
    got = backend.normalize(stats, weight, bias, eps, order)
    assert_near(got, (scale, mean, variance, moments))
    outputs = [(t, d.double()) for t, d in ((scale, d_scale), (mean, d_mean), (moments, d_moments))]
    expected = torch.autograd.grad([t for t, _ in outputs], inputs, [d for _, d in outputs], allow_unused=True)
    back = backend.normalize_backward(stats, got[1], got[2], got[0], eps, d_scale, d_mean, d_moments)
    for a, b in zip(back, expected, strict=False):
        assert_near([a], [torch.zeros_like(a).double() if b is None else b])


def check_combine(backend, scale, shift, gate, offset, d_scale, d_shift):
    """The centre's gradient is that of ``scale * gate * (k - centre)`` in the shift, at k = centre."""
    images = len(d_scale)
    a, b, s, t = (None if v is None else v.double().clone().requires_grad_() for v in (scale, shift, gate, offset))
    centre = torch.zeros_like(a, requires_grad=True)
    factor = torch.ones(images, 1, device=scale.device, dtype=torch.double) if s is None else s
    out = factor * a, factor * (b - a * centre) + (0 if t is None else t)
    assert_near(backend.combine(scale, shift, gate, offset, images), out)
    inputs = [v for v in (a, centre, b, s) if v is not None]
    expected = torch.autograd.grad(out, inputs, (d_scale.double(), d_shift.double()))
    d_norm, d_gate = backend.combine_backward(scale, shift, gate, d_scale, d_shift)
    assert_near(d_norm, expected[:3])
    if gate is not None:
        assert_near([d_gate], expected[3:])


def assert_near(got, expected):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=TOLERANCES[a.dtype], atol=TOLERANCES[a.dtype])
