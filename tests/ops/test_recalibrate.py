"""The door: what it refuses, when it fuses, and what a captured graph holds."""

import copy
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from recalib import RecalibError, attention_names, create_attention, ops
from recalib.attention import Attention
from recalib.ops import Affine, recalibrate
from recalib.ops.tail import tail

GATES = ["ab", "eca", "se", "srm", "gct", "multi_se"]


class Block(nn.Module):
    def __init__(self, attention, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)
        self.norm = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.attention = create_attention(attention, 16) if isinstance(attention, str) else attention

    def forward(self, x):
        return recalibrate(self.conv(x), self.norm, self.attention, x)


@pytest.fixture
def fusing(monkeypatch):
    """Small maps take the two passes too, and the operators that ran are listed."""
    monkeypatch.setattr(sys.modules["recalib.ops.recalibrate"], "_WORTHWHILE", 0)
    return lambda run: "recalib::integrate" in ran(run)


def ran(run):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return {event.name for event in profile.events()}


def maps(*shape, **options):
    return torch.randn(shape, **options), torch.randn(shape, **options)


class Answers(nn.Module):
    """A gate that answers whatever it is told to."""

    needs_variance = False

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def affine(self, moments):
        return self.answer(moments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: recalibrate(x, activation="gelu"), r"activation 'gelu': recalibrate takes 'relu' or 'none'"),
        (lambda x: recalibrate(x[0, 0]), r"floating map \(N, C, H, W\), got torch.float32 of shape \(4, 5\)"),
        (lambda x: recalibrate(x.int()), r"got torch.int32"),
        (
            lambda x: recalibrate(x, residual=x[:, :, :1]),
            r"residual of shape \(2, 16, 1, 5\) for a map of \(2, 16, 4, 5\)",
        ),
        (lambda x: recalibrate(x, nn.BatchNorm2d(8)), r"BatchNorm2d of 8 channels on a map of shape \(2, 16, 4, 5\)"),
        (lambda x: recalibrate(x, None, create_attention("se", 8)), r"SE of 8 channels on a map of shape"),
        (
            lambda x: recalibrate(x[:1, :, :1, :1], nn.BatchNorm2d(16)),
            r"BatchNorm2d in training .* 1 value per channel",
        ),
        (lambda x: recalibrate(x[:1], None, create_attention("srm", 16)), r"SRM in training .* shape \(1, 16\)"),
        (lambda x: recalibrate(x, None, Answers(lambda m: m.mean)), r"Answers.affine returned Tensor; a gate returns"),
        (
            lambda x: recalibrate(x, None, Answers(lambda m: Affine(m.mean[:, :, None, None]))),
            r"Answers.affine returned a scale of shape \(2, 16, 1, 1\); its moments are \(2, 16\)",
        ),
        (lambda x: recalibrate(x, None, Answers(lambda m: Affine(shift=m.mean[:1]))), r"a shift of shape \(1, 16\)"),
        (lambda x: recalibrate(x, None, Answers(lambda m: Affine(0.5))), r"a scale of type float; its moments are"),
    ],
)
def test_a_mistake_is_one_line_that_names_module_and_shape(call, message):
    with pytest.raises(RecalibError, match=message) as caught:
        call(torch.randn(2, 16, 4, 5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left", ["BatchNorm2d", "SE", "none"])
def test_a_module_that_was_left_on_another_device_is_named_with_both(left, fusing, monkeypatch):
    def launches(*_):
        raise ValueError("Pointer argument (at 1) cannot be accessed from Triton (cpu tensor?)")

    monkeypatch.setattr(sys.modules["recalib.ops.recalibrate"], "tail", launches)
    modules = nn.BatchNorm2d(16), create_attention("se", 16)
    norm, gate = (m.to("meta") if type(m).__name__ == left else m for m in modules)
    message = "^Pointer argument" if left == "none" else f"^{left} is on meta, its map on cpu; move the module there$"
    with pytest.raises(ValueError, match=message):
        recalibrate(torch.randn(2, 16, 4, 4), norm, gate)


def test_an_error_of_the_gates_own_stays_what_it_is(fusing):
    def fails(moments):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        recalibrate(torch.randn(2, 16, 4, 4), None, Answers(fails))


def test_a_large_map_in_training_takes_two_passes_and_a_small_one_the_modules():
    small = Block("se")
    large = nn.BatchNorm2d(64), create_attention("se", 64)
    x = torch.randn(8 * torch.get_num_threads(), 64, 48, 48, requires_grad=True)
    assert "recalib::moments" in ran(lambda: recalibrate(x, *large, x))
    apart = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert "recalib::moments" not in ran(lambda: recalibrate(apart, *large, apart)), "torch is quicker there"
    part = x[: len(x) * 3 // 8].detach().requires_grad_()
    assert "recalib::moments" not in ran(lambda: recalibrate(part, *large, part))
    assert "recalib::moments" in ran(lambda: recalibrate(part, large[0], create_attention("gct", 64), part))
    assert "recalib::moments" not in ran(lambda: small(torch.randn(2, 16, 4, 4)))
    assert "recalib::moments" not in ran(lambda: recalibrate(x, large[0], None, x)), "nothing to gain without a gate"
    with torch.no_grad():
        assert "recalib::moments" not in ran(lambda: recalibrate(x, *large, x))


@pytest.mark.parametrize(
    ("name", "layout", "size", "fused"),
    [
        ("se", torch.contiguous_format, 28, True),
        ("se", torch.channels_last, 28, False),
        ("gct", torch.contiguous_format, 7, True),
        ("gct", torch.channels_last, 14, True),
        ("srm", torch.channels_last, 14, True),
        ("srm", torch.channels_last, 7, False),
    ],
)
def test_where_two_threads_train_a_resnet50_in_two_passes(name, layout, size, fused, monkeypatch):
    """Eight images, at the stage whose maps have that size: where the measurements in docs/performance.md draw it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    channels = 14336 // size
    x = torch.randn(8, channels, size, size).contiguous(memory_format=layout).requires_grad_()
    norm, gate = nn.BatchNorm2d(channels), create_attention(name, channels)
    assert ("recalib::moments" in ran(lambda: recalibrate(x, norm, gate, x))) == fused


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", GATES)
def test_inference_that_overwrites_its_own_maps_leaves_the_callers_alone(name, channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, r = (t.contiguous(memory_format=layout) for t in maps(2, 16, 4, 4))
    kept = x.clone(), r.clone()
    gate = create_attention(name, 16).eval()
    nn.init.normal_(next(gate.parameters()))
    for norm in (nn.BatchNorm2d(16).eval(), None):
        for activation in ("relu", "none"):
            expected = recalibrate(x, norm, gate, r, activation)  # with gradients, so nothing is overwritten
            with torch.no_grad():
                torch.testing.assert_close(recalibrate(x, norm, gate, r, activation), expected)
    assert torch.equal(x, kept[0])
    assert torch.equal(r, kept[1])


def test_nothing_to_do_is_an_activation():
    x, r = maps(2, 3, 4, 4)
    assert torch.equal(recalibrate(x), x.relu())
    assert torch.equal(recalibrate(x, residual=r), (x + r).relu())
    assert recalibrate(x, activation="none") is x


def test_what_is_not_a_gate_on_moments_runs_as_it_is():
    x, r = maps(2, 16, 4, 4)
    for attention in (create_attention("timm:se", 16), create_attention("gct", 16, mode="l1"), nn.Sigmoid()):
        for norm in (nn.GroupNorm(4, 16), nn.BatchNorm2d(16)):
            got = recalibrate(x, norm, attention, r)
            torch.testing.assert_close(got, torch.relu(attention(norm(x)) + r))
            got.sum().backward()


def test_a_norm_with_an_activation_inside_is_not_taken_for_a_plain_one(fusing):
    from timm.layers import BatchNormAct2d

    x, r = maps(2, 16, 4, 4)
    norm, gate = BatchNormAct2d(16), create_attention("ab", 16)
    assert not fusing(lambda: recalibrate(x, norm, gate, r))
    nn.init.ones_(gate.weight)
    y = copy.deepcopy(norm)(x)
    expected = torch.relu(y + y.mean((2, 3), keepdim=True) + r)
    torch.testing.assert_close(recalibrate(x, copy.deepcopy(norm), gate, r), expected)


def test_a_folded_norm_is_no_norm(fusing):
    x, r = maps(2, 16, 4, 4)
    gate = create_attention("se", 16)
    assert fusing(lambda: recalibrate(x, nn.Identity(), gate, r))
    assert torch.equal(recalibrate(x, nn.Identity(), gate, r), recalibrate(x, None, gate, r))


@pytest.mark.parametrize("which", ["norm", "attention"])
def test_hooked_modules_are_called(fusing, which):
    block, seen = Block("se"), []
    x = torch.randn(2, 16, 4, 4)
    block(x)
    handle = getattr(block, which).register_forward_hook(lambda m, i, o: seen.append(o.shape))
    block(x)
    assert seen == [x.shape]
    handle.remove()
    block(x)
    assert len(seen) == 1


def test_what_a_hook_keeps_is_not_overwritten():
    block, kept = Block("se").eval(), []
    block.norm.register_forward_hook(lambda m, i, o: kept.append((o, o.clone())))
    with torch.no_grad():
        block(torch.randn(2, 16, 4, 4))
    assert torch.equal(*kept[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fused_or_not_inference_is_the_same(mode):
    block = Block("srm").eval()
    x = torch.randn(2, 16, 4, 4)
    with mode():
        fused = tail(block.conv(x), block.norm, block.attention, x, True)
        torch.testing.assert_close(block(x), fused)


def test_a_gate_with_a_hook_can_be_called_by_itself():
    gate, seen = create_attention("se", 16), []
    gate.register_forward_hook(lambda *_: seen.append(1))
    gate(torch.randn(2, 16, 4, 4))
    assert seen == [1]


def test_a_residual_of_another_type_promotes_as_an_addition_does(fusing):
    x, r = maps(2, 16, 4, 4)
    gate = create_attention("se", 16)
    assert recalibrate(x.bfloat16(), None, gate, r).dtype == torch.float32


@pytest.mark.parametrize("name", attention_names())
def test_an_empty_batch_behaves_as_with_batchnorm2d(name, fusing):
    x = torch.randn(0, 16, 4, 4, requires_grad=True)
    norm, theirs, gate = nn.BatchNorm2d(16), nn.BatchNorm2d(16), create_attention(name, 16)
    assert gate(x).shape == x.shape
    y = recalibrate(x, norm, gate, x)
    y.sum().backward()
    theirs(x)
    assert y.shape == x.grad.shape == x.shape
    assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), theirs.buffers(), strict=True))


def test_blocks_survive_deepcopy(fusing):
    block = Block("srm")
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(copy.deepcopy(block)(x), block(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", GATES)
def test_exported_graphs_hold_plain_operators_only(name, training, fusing):
    block = Block(name).train(training)
    batch = {"x": {0: torch.export.Dim("n", min=2)}}
    program = torch.export.export(block, (torch.randn(4, 16, 4, 4),), dynamic_shapes=batch)
    assert not [node for node in program.graph.nodes if "recalib" in str(node.target)]
    if not training:
        x = torch.randn(7, 16, 4, 4)
        torch.testing.assert_close(program.module()(x), block(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", GATES)
def test_jit_traces_hold_plain_operators_and_symbolic_traces_a_gate_as_one_node(name, fusing):
    block, x = Block(name).eval(), torch.randn(2, 16, 4, 4)
    expected = block(x)
    assert "recalib::" not in str(torch.jit.trace(block, x).inlined_graph)
    graph = torch.fx.symbolic_trace(block)
    assert "attend" in [node.name for node in graph.graph.nodes if node.op == "call_function"]
    torch.testing.assert_close(graph(x), expected)


@pytest.mark.parametrize("name", GATES)
def test_compiles_as_one_graph_in_training(name, fusing):
    torch.manual_seed(0)
    block = Block(name)
    twin, x = copy.deepcopy(block), torch.randn(4, 16, 4, 4)
    torch.compile(block, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    twin(x).square().sum().backward()
    for a, b in zip(block.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", GATES)
def test_nothing_waits_for_the_device_so_that_cuda_graphs_can_record_it(name, training):
    """Fake tensors have no values: whatever would read one, as ``.item()`` or a branch does, fails."""
    with FakeTensorMode():
        for momentum in (0.1, None):
            norm, gate = (
                m.train(training) for m in (nn.BatchNorm2d(16, momentum=momentum), create_attention(name, 16))
            )
            x, r = maps(4, 16, 6, 6, requires_grad=True)
            tail(x, norm, gate, r, True).sum().backward()
            assert x.grad.shape == r.grad.shape == x.shape


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*GATES, None])
def test_a_gpu_takes_two_passes_where_maps_are_large_with_and_without_a_gate(name, training):
    called = []

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.append(function.name())
            return function(*args, **(kwargs or {}))

    with FakeTensorMode(), torch.set_grad_enabled(training):
        place = {"device": "cuda"}
        norm = nn.BatchNorm2d(16, **place).train(training)
        gate = None if name is None else create_attention(name, 16, **place).train(training)
        x, r = maps(128, 16, 128, 128, dtype=torch.bfloat16, **place)
        with Listen():
            y = recalibrate(x, norm, gate, r)
    assert y.device.type == "cuda"
    assert called.count("recalib::moments") == called.count("recalib::integrate") == 1


def test_a_new_mechanism_fuses_by_its_gate_alone(fusing):
    class Louder(Attention):
        def gate(self, moments):
            return Affine(moments.mean.sigmoid(), moments.mean)

    x, r = maps(2, 16, 4, 4)
    assert fusing(lambda: recalibrate(x, nn.BatchNorm2d(16), Louder(16), r))
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(recalibrate(x, None, Louder(16), r), torch.relu(x * mean.sigmoid() + mean + r))


def test_the_door_and_the_contract_are_what_ops_offers():
    assert {"recalibrate", "Moments", "Affine", "GateOnMoments", "moments", "integrate"} <= set(ops.__all__)


def test_on_a_gpu_small_maps_train_by_their_modules_since_operators_cost_python(monkeypatch):
    module = sys.modules["recalib.ops.recalibrate"]
    taken = []
    monkeypatch.setattr(module.passes, "has_kernels", lambda _: True)
    monkeypatch.setattr(module, "tail", lambda x, *_: taken.append(1) or x)
    x = torch.randn(2, 16, 4, 4, requires_grad=True)
    norm, gate = nn.BatchNorm2d(16), create_attention("se", 16)
    torch.testing.assert_close(recalibrate(x, norm, gate, x), module.compose(x, norm, gate, x, True))
    gate.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(recalibrate(x, norm, gate, x), module.compose(x, norm, gate, x, True))
    assert not taken
    monkeypatch.setattr(module, "_WORTHWHILE_ON_GPU", x.numel())
    recalibrate(x, norm, create_attention("se", 16), x)
    assert taken
