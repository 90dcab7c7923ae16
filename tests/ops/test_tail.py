"""The fused tail against the plain composition in float64: values, gradients, statistics, training."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recalib import attention_names, create_attention
from recalib.ops.contract import is_gate
from recalib.ops.reference import compose
from recalib.ops.tail import tail

GATES = [name for name in attention_names() if is_gate(create_attention(name, 8))]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def gate(name, channels, dtype=torch.double):
    """A mechanism whose parameters are all in play, not at their zeros of initialisation."""
    module = create_attention(name, channels).to(dtype)
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    return module


def batch_norm(channels, dtype=torch.double, **options):
    norm = nn.BatchNorm2d(channels, **options).to(dtype)
    for t in (norm.weight, norm.bias, norm.running_mean):
        if t is not None:
            nn.init.normal_(t)
    return norm


def maps(*shape, layout=torch.contiguous_format, dtype=torch.double):
    return [(torch.randn(shape, dtype=dtype) + 0.5).contiguous(memory_format=layout).requires_grad_() for _ in range(2)]


def outcome(run, x, norm, attention, residual, relu):
    """Output, gradients of everything that has one, and buffers, of a run on copies."""
    norm, attention = copy.deepcopy(norm), copy.deepcopy(attention)
    modules = nn.ModuleList(m for m in (norm, attention) if m is not None)
    inputs = [x, *modules.parameters()] + ([] if residual is None else [residual])
    y = run(x, norm, attention, residual, relu)
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    gradients = torch.autograd.grad(y, inputs, cotangent, allow_unused=True)
    return [y, *gradients, *modules.buffers()]


def assert_same(got, expected, **tolerance):
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **tolerance)


@layouts
@modes
@pytest.mark.parametrize("with_norm", [True, False], ids=["norm", "no norm"])
@pytest.mark.parametrize("name", GATES)
def test_equals_the_composition_in_float64_forward_backward_and_in_what_it_tracks(name, with_norm, training, layout):
    torch.manual_seed(0)
    x, r = maps(4, 32, 5, 7, layout=layout)
    norm = batch_norm(32).train(training) if with_norm else None
    attention = gate(name, 32).train(training)
    for residual, relu in ((r, True), (None, False), (r, False), (None, True)):
        got = outcome(tail, x, norm, attention, residual, relu)
        assert_same(got, outcome(compose, x, norm, attention, residual, relu), rtol=1e-9, atol=1e-10)
        assert got[0].is_contiguous(memory_format=layout)


@layouts
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 2e-2)],
    ids=["fp32", "fp16", "bf16"],
)
@pytest.mark.parametrize("name", GATES)
def test_precision_is_1e_5_in_float32_5e_3_in_float16_and_2e_2_in_bfloat16(name, dtype, tolerance, layout):
    torch.manual_seed(0)
    x, r = (t.detach().to(dtype).requires_grad_() for t in maps(4, 32, 6, 6, layout=layout))
    norm, attention = batch_norm(32), gate(name, 32)
    exact = outcome(
        compose, *(copy.deepcopy((x.double().detach().requires_grad_(), norm, attention))), r.double(), True
    )
    got, composed = (outcome(run, x, norm.float(), attention.float(), r, True) for run in (tail, compose))
    for a, b, e in zip(got, composed, exact, strict=True):
        # SRM's weight stands before a norm, so its gradient is a small difference: there, as good as the composition
        assert relative_error(a, e) <= max(tolerance, relative_error(b, e) if dtype == torch.float32 else 0)


def relative_error(a, b):
    return ((a.double() - b).norm() / b.double().norm().clamp_min(1e-3)).item()


@layouts
@modes
@pytest.mark.parametrize("name", GATES)
def test_gradients_pass_gradcheck(name, training, layout):
    torch.manual_seed(1)
    x, r = maps(3, 4, 2, 3, layout=layout)
    norm, attention = batch_norm(4).train(training), gate(name, 4).train(training)
    parameters = [*norm.parameters(), *attention.parameters()]
    assert torch.autograd.gradcheck(
        lambda x, r, *_: tail(x, norm, attention, r, True), (x, r, *parameters), fast_mode=True
    )
    alone = (x, *attention.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: tail(x, None, attention, None, False), alone, fast_mode=True)


@pytest.mark.parametrize("shape", [(1, 5, 3, 3), (2, 3, 1, 1), (3, 1, 1, 7), (2, 7, 9, 1)])
@pytest.mark.parametrize("name", ["se", "srm", "ab"])
def test_awkward_shapes(name, shape):
    torch.manual_seed(0)
    x, r = maps(*shape)
    norm, attention = batch_norm(shape[1]), gate(name, shape[1])
    if shape[0] == 1:
        attention.eval()  # SRM's own norm wants more than one image
    args = (x, norm, attention, r, True)
    assert_same(outcome(tail, *args), outcome(compose, *args), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("strided", [lambda t: t[:, :, ::2, 1:], lambda t: t.transpose(2, 3), lambda t: t[::2]])
def test_maps_and_residuals_in_any_strides(strided):
    torch.manual_seed(0)
    x, r = maps(4, 6, 6, 6)
    norm, attention = batch_norm(6), gate("srm", 6)

    def run(form):
        return lambda x, n, a, r, relu: form(
            strided(x), n, a, strided(r.contiguous(memory_format=torch.channels_last)), relu
        )

    args = (x, norm, attention, r, True)
    assert_same(outcome(run(tail), *args), outcome(run(compose), *args), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norm_trains", [True, False])
def test_norm_and_attention_in_different_modes(norm_trains):
    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3)
    norm, attention = batch_norm(8).train(norm_trains), gate("srm", 8).train(not norm_trains)
    args = (x, norm, attention, r, True)
    assert_same(outcome(tail, *args), outcome(compose, *args), rtol=1e-9, atol=1e-10)


def test_a_norm_alone_and_torchvisions_frozen_norm():
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3)
    frozen = FrozenBatchNorm2d(8).double()
    for t in frozen.buffers():
        nn.init.uniform_(t, 0.5, 2)
    for norm, attention in (
        (batch_norm(8), None),
        (batch_norm(8).eval(), None),
        (frozen, None),
        (frozen, gate("se", 8)),
    ):
        args = (x, norm, attention, r, True)
        assert_same(outcome(tail, *args), outcome(compose, *args), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3}, {"eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
@modes
def test_running_statistics_are_kept_as_batchnorm2d_keeps_them(options, training):
    torch.manual_seed(0)
    ours, theirs = (nn.BatchNorm2d(6, **options).double().train(training) for _ in range(2))
    for _ in range(3):
        x = torch.randn(4, 6, 3, 5).double() * 2 + 1
        torch.testing.assert_close(tail(x, ours, None, None, True), theirs(x).relu(), rtol=1e-10, atol=1e-12)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-12, atol=0)


@modes
@pytest.mark.parametrize("name", ["ab", "se", "eca", "gct", "srm", "multi_se"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_propagate_as_in_the_composition(value, name, training):
    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3)
    x.data[1, 2, 0, 1] = value
    r.data[2, 3, 1, 1] = value
    args = (x, batch_norm(8).train(training), gate(name, 8).train(training), r, True)
    got, expected = outcome(tail, *args), outcome(compose, *args)
    assert not all(t.isfinite().all() for t in expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        torch.testing.assert_close(a[a.isfinite()], b[b.isfinite()], rtol=1e-9, atol=1e-10)


class Network(nn.Module):
    """Two residual blocks whose tails run as `run` runs them."""

    def __init__(self, name, run):
        super().__init__()
        self.run = run
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))
        self.gates = nn.ModuleList(create_attention(name, 16) for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        for conv, norm, attention in zip(self.convs, self.norms, self.gates, strict=True):
            x = self.run(conv(x), norm, attention, x, True)
        return self.head(x.mean((2, 3)))


def learning_curve(network, steps=50, autocast=False):
    """Losses of a few steps on one batch, as a tensor; the network is left trained."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(16, 3, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(network(images.to(network.stem.weight.dtype)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().double())
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)],
    ids=["fp64", "fp32", "bf16 autocast"],
)
@pytest.mark.parametrize("name", ["ab", "eca", "se", "multi_se", "srm", "gct"])
def test_fifty_training_steps_beside_the_unfused_network_in_float64(name, kind, tolerance):
    torch.manual_seed(0)
    fused = Network(name, tail)
    plain = copy.deepcopy(fused).double()
    plain.run = compose
    half = kind == torch.bfloat16
    got, expected = learning_curve(fused if half else fused.to(kind), autocast=half), learning_curve(plain)
    assert expected[-1] < 1.0
    assert relative_error(got, expected) <= tolerance
    if kind == torch.float64:  # in less, a value on the other side of a ReLU's kink moves a single weight at random
        for (key, a), b in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ["ab", "se", "srm"])
def test_compiles_as_one_graph(name):
    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3)
    args = (x, batch_norm(8), gate(name, 8), r, True)
    compiled = torch.compile(tail, fullgraph=True, backend="aot_eager")
    assert_same(outcome(compiled, *args), outcome(compose, *args), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@layouts
def test_inductor_keeps_the_operators_and_their_strides(layout):
    """What a GPU's compiled training step does, as far as a CPU can: one graph, forward and backward."""
    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3, layout=layout)
    args = (x, batch_norm(8), gate("se", 8), r, True)
    compiled = torch.compile(tail, fullgraph=True, backend="inductor")
    got = outcome(compiled, *args)
    assert_same(got, outcome(compose, *args), rtol=1e-9, atol=1e-10)
    assert got[0].stride() == x.stride(), "the output"
    assert got[1].stride() == x.stride(), "the gradient of the map"


def test_exports_with_its_operators():
    network = Network("srm", tail).eval()
    program = torch.export.export(network, (torch.randn(2, 3, 8, 8),))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing_changes_nothing(use_reentrant):
    torch.manual_seed(0)
    x, r = maps(4, 8, 3, 3)
    args = (x, batch_norm(8).eval(), gate("se", 8), r, True)

    def checkpointed(*a):
        return checkpoint(tail, *a, use_reentrant=use_reentrant)

    gradients = {}
    for run in (checkpointed, tail):
        x.grad = r.grad = None
        run(*args).square().sum().backward()
        gradients[run] = x.grad, r.grad
    assert_same(gradients[checkpointed], gradients[tail])


def test_autocast_keeps_gates_in_float32_and_maps_in_bfloat16():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 1)
    norm, attention = batch_norm(8, torch.float32), gate("se", 8, torch.float32)
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = conv(x)
        y = tail(half, norm, attention, half, True)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert norm.weight.grad.dtype == attention.fc1.weight.grad.dtype == x.grad.dtype == torch.float32


@pytest.mark.parametrize(("name", "relu", "maps_saved"), [("se", True, 2), ("se", False, 1), (None, True, 2)])
def test_x_is_saved_once_and_y_only_under_a_relu(name, relu, maps_saved):
    x, r = maps(4, 16, 28, 28, dtype=torch.float32)
    saved = saved_bytes(x, batch_norm(16, torch.float32), name and gate(name, 16, torch.float32), r, relu)
    assert 0 <= saved - maps_saved * x.nbytes <= 0.02 * maps_saved * x.nbytes


@pytest.mark.parametrize("name", ["ab", "eca", "se", "multi_se", "srm", "gct"])
def test_a_gate_adds_at_most_two_percent_to_what_a_plain_tail_saves(name):
    x, r = maps(4, 16, 28, 28, dtype=torch.float32)
    norm, attention = batch_norm(16, torch.float32), gate(name, 16, torch.float32)
    assert saved_bytes(x, norm, attention, r, True) <= 1.02 * saved_bytes(x, norm, None, r, True)


def saved_bytes(x, norm, attention, residual, relu):
    """Bytes that autograd keeps for a tail, each storage counted once; parameters, which are there anyway, left out."""
    modules = nn.ModuleList(m for m in (norm, attention) if m is not None)
    parameters = {p.untyped_storage().data_ptr() for p in modules.parameters()}
    storages = {}

    def pack(t):
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        tail(x, norm, attention, residual, relu)
    return sum(size for storage, size in storages.items() if storage not in parameters)
