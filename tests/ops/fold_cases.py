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
    given = draw(channels), draw(channels).square()
    for order in (0, 1, 2):
        d_outputs = *gradients[:2], gradients[2][:order]
        check_normalize(backend, stats, None, weight, bias, order, d_outputs)
        check_normalize(backend, stats, None, None, None, order, d_outputs)
        check_normalize(backend, stats[:order], given, weight, None, order, d_outputs)
    gate, offset = draw(images, channels), draw(images, channels)
    for s, t in ((gate, offset), (gate, None), (None, offset), (None, None)):
        check_combine(backend, weight, bias, s, t, draw(images, channels), draw(images, channels))


def check_normalize(backend, stats, given, weight, bias, order, d_outputs):
    eps = 0.25
    stats_, weight_, bias_, mean_, variance_ = inputs = [
        None if t is None else t.double().clone().requires_grad_()
        for t in (stats, weight, bias, *(given or (None, None)))
    ]
    mean, variance = (stats_[0].mean(0), None) if given is None else (mean_, variance_)
    if given is None:
        variance = stats_[1].mean(0) + (stats_[0] - mean).square().mean(0)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight_)
    parts = [scale * (stats_[0] - mean) + (0 if bias is None else bias_)] if order else []
    parts += [scale.square() * stats_[1]] if order == 2 else []
    moments = torch.stack(parts) if parts else stats_[:0] * scale
    got = backend.normalize(stats, *(given or (None, None)), weight, bias, eps, order)
    assert_near(got, (scale, mean, variance, moments))
    expected = torch.autograd.grad(
        (scale, mean, moments),
        [t for t in inputs if t is not None],
        [d.double() for d in d_outputs],
        allow_unused=True,
        materialize_grads=True,
    )
    expected = iter(expected)
    d_stats, rest = backend.normalize_backward(stats, got[1], got[2], got[0], eps, given is not None, *d_outputs)
    for t, gradient in zip(inputs, (d_stats, *rest), strict=True):
        if t is not None:
            assert_near([gradient], [next(expected)])


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
