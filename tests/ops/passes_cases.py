"""What every backend's passes are held to, written out in float64; not collected, used by the tests of the backends."""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def spread(t):
    return t.double()[..., None, None]


def check(backend, shape, dtype, layout, device="cpu", mean=1.0, optional=True):
    """All passes of a backend, with and, unless ``optional`` is false, without each optional operand."""
    generator = torch.Generator().manual_seed(sum(shape))

    def draw(*size, at=0.0):
        return (torch.randn(size, generator=generator, dtype=torch.double) + at).to(device)

    def draw_map(at=0.0):
        return draw(*shape, at=at).to(dtype).contiguous(memory_format=layout)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, r, dy, y = draw_map(mean), draw_map(), draw_map(), draw_map().relu()
    c, s, t = (draw(*size).to(wide) for size in (shape[1:2], shape[:2], shape[:2]))
    check_moments(backend, x, wide)
    if not optional:
        check_integrate(backend, x, c, s, t, r, True)
        check_mask_and_reduce(backend, dy, y, x, c, True)
        check_differentiate(backend, dy, s, x, draw(2, *shape[:2]).to(wide))
        return
    for operands in ((c, s, t, r), (None, s, None, None), (None, None, t, r), (c, s, None, r), (None, None, None, r)):
        for relu in (True, False):
            check_integrate(backend, x, *operands, relu)
    for operands in ((y, x, c, True), (None, x, None, True), (y, None, None, True), (None, None, None, True),
                     (y, None, None, False)):  # fmt: skip
        check_mask_and_reduce(backend, dy, *operands)
    for order in (0, 1, 2):
        check_differentiate(backend, dy, s, x, draw(order, *shape[:2]).to(wide))


def check_moments(backend, x, wide):
    exact = x.double()
    mean = exact.mean((2, 3))
    variance = (exact - spread(mean)).square().mean((2, 3))
    for order in (0, 1, 2):
        stats = backend.moments(x, order)
        assert stats.dtype == wide
        assert_near(stats, torch.stack((mean, variance))[:order], wide)


def check_integrate(backend, x, centre, scale, shift, residual, relu):
    expected = x.double()
    expected = expected if centre is None else expected - spread(centre)
    expected = expected if scale is None else expected * spread(scale)
    expected = expected if shift is None else expected + spread(shift)
    expected = expected if residual is None else expected + residual.double()
    y = backend.integrate(x, centre, scale, shift, residual, relu)
    assert y.dtype == x.dtype
    assert y.stride() == x.stride()
    assert_near(y, expected.relu() if relu else expected, x.dtype)


def check_mask_and_reduce(backend, dy, y, x, centre, sums):
    dm = dy if y is None else torch.where(y <= 0, 0, dy)
    got, reduced = backend.mask_and_reduce(dy, y, x, centre, sums)
    if y is not None:
        assert torch.equal(got, dm)
    centred = None if x is None else x.double() - (0 if centre is None else spread(centre))
    expected = [dm.double().sum((2, 3))] if sums else []
    expected += [(dm.double() * centred).sum((2, 3))] if sums and x is not None else []
    assert len(reduced) == len(expected)
    for a, b in zip(reduced, expected, strict=True):
        assert_near(a, b, reduced.dtype)


def check_differentiate(backend, dm, scale, x, d_stats):
    size = dm.shape[2] * dm.shape[3]
    stats = backend.moments(x, len(d_stats))
    expected = spread(scale) * dm.double()
    if len(d_stats):
        expected = expected + spread(d_stats[0]) / size
    if len(d_stats) == 2:
        expected = expected + 2 * spread(d_stats[1]) * (x.double() - spread(x.double().mean((2, 3)))) / size
    dx = backend.differentiate(dm, scale, x if len(d_stats) == 2 else None, stats, d_stats)
    assert dx.dtype == dm.dtype
    assert dx.stride() == dm.stride()
    assert_near(dx, expected, dm.dtype)


def assert_near(got, expected, dtype):
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=10 * tolerance)
