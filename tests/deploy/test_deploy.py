"""A deployed network is the same function in another form."""

import copy
import pickle
from functools import cache

import pytest
import timm
import torch
import torchvision
from torch import nn

import recalib
from recalib import RecalibError, attention_names, cifar_resnet, deploy, insert_
from recalib.attention import Attention
from recalib.deploy.blocked import GateBlocked, blocked_squares
from recalib.deploy.deploy import assemble, key, sites_of
from recalib.deploy.forms import form_by_rule, forms_of, forms_to_measure
from recalib.deploy.gates import GateFirst, means, tap_means
from recalib.deploy.graph import simplify, trace
from recalib.deploy.layers import take_apart
from recalib.deploy.rewrite import Spread
from recalib.deploy.tails import ConvTail, Tail
from recalib.ops import Affine, Moments

TARGETS = ["eager", "compile", "onnxruntime", "openvino", "tensorrt"]
SIZE = (2, 3, 64, 64)


def in_play(model):
    """No norm and no gate at its initial value, so that a mistake shows."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, Attention):
            for p in module.parameters(recurse=False):
                nn.init.normal_(p, std=0.3)
            if module.blend is not None:
                nn.init.normal_(module.blend.weight)
    return model.eval()


def relative_error(got, expected):
    return float((got.double() - expected.double()).abs().max() / expected.abs().max())


@torch.no_grad()
def check(model, target, size=SIZE, limit=1e-9):
    x = torch.randn(size, dtype=next(model.parameters()).dtype)
    deployed = deploy(model, size, target=target)
    assert relative_error(deployed(x), model(x)) <= limit
    return deployed


@cache
def attended(name):
    """A quarter of a ResNet-26's width takes the same forms in a fraction of the time."""
    model = timm.create_model("resnet26", channels=(16, 32, 64, 128), num_classes=10).double()
    insert_(model, name)
    return in_play(model)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", attention_names())
def test_every_mechanism_in_every_form_is_exact(name, target):
    check(attended(name), target)


@pytest.mark.parametrize("target", ["eager", "onnxruntime"])
@pytest.mark.parametrize("options", [{"identity": True}, {"bias": False}], ids=["blended", "without biases"])
def test_options_are_deployed_too(options, target):
    model = cifar_resnet(20, block="bottleneck").double()
    insert_(model, "multi_se", **options)
    check(in_play(model), target, (2, 3, 32, 32))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "build",
    [
        lambda: timm.create_model("resnet18"),
        lambda: timm.create_model("mobilenetv2_100"),
        lambda: torchvision.models.mobilenet_v2(),
        lambda: timm.create_model("convnext_atto"),
        lambda: timm.create_model("resnetv2_50"),
        lambda: cifar_resnet(20, version=2),
    ],
    ids=["resnet18", "timm mobilenetv2", "torchvision mobilenetv2", "convnext", "pre-activation", "cifar v2"],
)
def test_every_family_is_deployed_exactly(build, target):
    model = build().double()
    insert_(model, "se")
    check(in_play(model), target)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2_100"])
@pytest.mark.parametrize("target", ["eager", "onnxruntime"])
def test_in_float32_the_relative_error_is_at_most_1e_5(name, target):
    for attention in ("ab", "eca", "se", "srm", "gct"):
        model = timm.create_model(name)
        insert_(model, attention)
        check(in_play(model), target, (1, 3, 96, 96), limit=1e-5)


def test_batch_norms_are_folded_and_dropout_is_gone():
    deployed = deploy(in_play(timm.create_model("mobilenetv2_100", drop_rate=0.5)), SIZE)
    called = {type(deployed.get_submodule(n.target)) for n in deployed.fx_graph.nodes if n.op == "call_module"}
    assert nn.Conv2d in called
    assert not any(issubclass(kind, (nn.BatchNorm2d, nn.Dropout, nn.Identity)) for kind in called)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    assert not any(p.requires_grad for p in deployed.parameters())
    assert not deployed.training


def test_the_model_itself_is_left_alone():
    model = in_play(cifar_resnet(20, attention="se")).train()
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    deploy(model, (1, 3, 32, 32))
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_deployed_network_can_be_copied_pickled_and_moved():
    model = in_play(cifar_resnet(20, attention="eca")).double()
    deployed = deploy(model, (1, 3, 32, 32))
    x = torch.randn(3, 3, 32, 32)
    for other in (copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed))):
        torch.testing.assert_close(other(x.double()), deployed(x.double()))
    assert deployed.float()(x).dtype == torch.float32


@pytest.mark.parametrize("name", ["gct", "se", "multi_se"])
def test_batch_size_is_free_after_deployment(name):
    model = in_play(cifar_resnet(20, block="bottleneck", attention=name)).double()
    deployed = deploy(model, (1, 3, 32, 32), target="onnxruntime")
    assert any(isinstance(m, GateBlocked) for m in deployed.modules())
    x = torch.randn(7, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        assert relative_error(deployed(x), model(x)) < 1e-9


def test_a_gate_nobody_described_is_deployed_as_it_is():
    class Both(Attention):
        def gate(self, moments):
            return Affine(moments.mean.sigmoid(), moments.mean.tanh())

    class Loud(Attention):
        needs_variance = True

        def gate(self, moments):
            return Affine(scale=1 + moments.variance)

    for gate in (Both, Loud):
        model = cifar_resnet(20, block="bottleneck").double()
        insert_(model, gate)
        check(in_play(model), "eager", (2, 3, 32, 32))


class Tanh(Attention):
    def __init__(self, channels, identity=False, **factory):
        super().__init__(channels, identity, **factory)
        self.weight = nn.Parameter(torch.zeros(channels, **factory))

    def gate(self, moments):
        return Affine(1 + torch.tanh(self.weight * moments.mean))


class Narrow(Attention):
    """A hidden layer of another width than SE's, no biases, as layers of its own."""

    def __init__(self, channels, identity=False, **factory):
        super().__init__(channels, identity, **factory)
        self.layers = nn.Sequential(
            nn.Linear(channels, channels // 8, **factory), nn.ReLU(), nn.Linear(channels // 8, channels, **factory)
        )

    def gate(self, moments):
        return Affine(torch.sigmoid(self.layers(moments.mean)))


class Louder(recalib.attention.SE):
    """A gate that is a known one's subclass, and another gate."""

    def gate(self, moments):
        return Affine(2 * super().gate(moments).scale)


class Sorted(Attention):
    """A step that no layout of a runtime has."""

    def gate(self, moments):
        return Affine(1 + moments.mean.cumsum(1).sigmoid())


class Branching(Attention):
    """Code that cannot be traced."""

    def gate(self, moments):
        return Affine(moments.mean.tanh() if moments.mean.sum() > 0 else moments.mean.sigmoid())


@pytest.mark.parametrize("target", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("gate", [Tanh, Narrow, Louder, Sorted, Branching])
def test_a_users_own_gate_is_exact_in_every_target(gate, target):
    model = timm.create_model("resnet26", num_classes=10).double()
    insert_(model, gate, identity=gate is Narrow)
    check(in_play(model), target)


def test_a_users_own_gate_stays_in_the_blocked_layout_where_every_step_has_a_form():
    def blocked(gate):
        model = cifar_resnet(20, block="bottleneck")
        insert_(model, gate)
        return sum(isinstance(m, GateBlocked) for m in deploy(model, (1, 3, 32, 32), target="onnxruntime").modules())

    assert [blocked(gate) for gate in (Tanh, Narrow, Louder, Sorted, Branching)] == [6, 6, 6, 0, 0]


@pytest.mark.parametrize(
    ("name", "width"),
    [("ab", 64), ("ge", 64), ("se", 4), ("multi_se", 3 * 4 + 3), ("se_var3", 64), ("eca_ns", 64), ("ecam", 64)],
)
def test_the_first_layer_is_read_off_the_gate(name, width):
    layers = take_apart(recalib.create_attention(name, 64))
    assert layers.weight.shape == (width, 64)


def test_a_gate_first_is_made_where_the_convolution_lies():
    for name in ("ge", "se_var1", "ab", "multi_se"):
        attention, conv = recalib.create_attention(name, 8).eval(), nn.Conv2d(4, 8, 1)
        with torch.device("meta"):  # where anything goes that is made without naming a device
            gate = GateFirst(take_apart(attention), conv, means)
        assert gate(torch.randn(1, 4, 3, 3)).device.type == "cpu"


def test_the_rule_reads_whichever_is_less():
    """ECA's folded layer is C_out wide: worth it at 56x56 with 64 channels in, not at 7x7 with 512."""
    model = timm.create_model("resnet50")
    insert_(model, "eca")
    deployed = deploy(model, (1, 3, 224, 224), target="openvino")
    forms = {name: type(m).__name__ for name, m in deployed.named_modules() if name.endswith("_gate")}
    assert forms["layer1.0.attention_gate"] == "GateFirst"
    assert forms["layer4.2.attention_gate"] == "Gate"


@pytest.mark.parametrize("name", ["ab", "eca", "se", "multi_se"])
def test_gates_of_layers_alone_stay_in_the_blocked_layout_behind_every_1x1_convolution(name):
    model = timm.create_model("resnet50")
    insert_(model, name)
    deployed = deploy(model, (2, 3, 64, 64), target="onnxruntime")
    assert sum(isinstance(m, GateBlocked) for m in deployed.modules()) == 16


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_second_moments_are_taken_in_the_blocked_layout_wherever_a_relu_follows(name):
    for attention in ("gct", "srm"):
        model = timm.create_model(name)
        insert_(model, attention)
        deployed = deploy(model, (1, 3, 64, 64), target="onnxruntime")
        assert sum(isinstance(m, GateBlocked) for m in deployed.modules()) == sum(
            isinstance(m, Attention) for m in model.modules()
        )


@torch.no_grad()
def test_a_variance_in_the_blocked_layout_stands_a_mean_far_from_zero_where_the_norm_knew_it():
    attention = recalib.create_attention("srm", 16).eval()
    nn.init.normal_(attention.weight)
    centre = 1000 + torch.randn(16)
    u = torch.randn(2, 16, 28, 28) + centre[:, None, None]
    got = blocked_squares(attention, centre, 28 * 28)(u)
    m, v = u.double().mean((2, 3)), u.double().var((2, 3), correction=0)
    expected = copy.deepcopy(attention).double().affine(Moments(m, v, 28 * 28)).scale
    assert relative_error(got.flatten(1), expected) < 1e-4


def test_srm_behind_no_norm_is_deployed_as_it_is():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.attention = nn.Conv2d(16, 16, 1), recalib.create_attention("srm", 16)

        def forward(self, x):
            return torch.relu(self.attention(self.conv(x)) + x)

    deployed = check(in_play(Plain().double()), "onnxruntime", (2, 16, 8, 8))
    assert not any(isinstance(m, GateBlocked) for m in deployed.modules())


def test_maps_stay_in_the_blocked_layout_only_where_a_relu_follows():
    for name, expected in (("resnet18", True), ("mobilenetv2_100", False)):
        model = timm.create_model(name)
        insert_(model, "se")
        deployed = deploy(model, (1, 3, 64, 64), target="onnxruntime")
        assert any(isinstance(m, Spread) for m in deployed.modules()) == expected


def test_a_network_with_control_flow_has_its_parts_folded():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = cifar_resnet(20, attention="se")

        def forward(self, x):
            return self.body(x if x.sum() > 0 else -x)

    model = in_play(Branching().double())
    deployed = check(model, "eager", (2, 3, 32, 32))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())


def test_frozen_batch_norms_of_a_detection_backbone_are_folded():
    norm = torchvision.ops.FrozenBatchNorm2d
    model = torchvision.models.resnet18(norm_layer=norm).double()
    insert_(model, "se")
    deployed = check(model.eval(), "eager")
    assert not any(isinstance(module, norm) for module in deployed.modules())


def test_measuring_chooses_among_exact_forms():
    model = cifar_resnet(29, block="bottleneck")
    insert_(model, "eca")
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        deployed = deploy(in_play(model), x.shape, target="eager", measure=True)
        assert relative_error(deployed(x), model(x)) < 1e-5
    told = deployed.about.forms
    assert len(told) == 9
    assert set(told.values()) <= {"map", "input"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "onnx"}, r"unknown target 'onnx'; did you mean onnxruntime"),
        ({"input_size": (224, 224)}, r"input_size=\(224, 224\): deploy takes \(N, C, H, W\)"),
        ({"input_size": (1, 4, 32, 32)}, r"does not run on an input of \(1, 4, 32, 32\)"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(RecalibError, match=message) as caught:
        deploy(cifar_resnet(20), **arguments)
    assert "\n" not in str(caught.value)


def test_deploy_is_the_function_and_not_the_package():
    assert callable(recalib.deploy)


@pytest.mark.parametrize("size", [(7, 5), (1, 4), (1, 1), (2, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_means_of_a_convolutions_output_follow_from_its_input(kernel, size):
    attention = recalib.create_attention("ab", 6).double()
    nn.init.ones_(attention.weight)
    conv = nn.Conv2d(4, 6, kernel, padding=kernel // 2).double()
    h = torch.randn(3, 4, *size, dtype=torch.double)
    got = GateFirst(take_apart(attention), conv, means)(h)
    torch.testing.assert_close(got, conv(h).mean((2, 3), keepdim=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_every_choice_of_forms_is_exact(target, batch):
    for name, block in (("ab", "basic"), ("eca", "bottleneck"), ("multi_se", "basic"), ("se", "bottleneck")):
        model = in_play(cifar_resnet(20, block=block, attention=name).double())
        x = torch.randn(batch, 3, 32, 32, dtype=torch.double)
        sites = sites_of(simplify(trace(model)), x)
        for form in forms_of(sites[0], target):
            deployed = assemble(simplify(trace(model)), x, target, {key(site): form for site in sites})
            with torch.no_grad():
                assert relative_error(deployed(x), model(x)) < 1e-9


def in_form(model, x, form):
    graph = simplify(trace(model))
    return assemble(graph, x, "eager", {key(site): form for site in sites_of(graph, x)})


@pytest.mark.parametrize("name", ["ab", "eca", "multi_se", "se"])
@pytest.mark.parametrize(
    "build",
    [lambda: cifar_resnet(20, block="bottleneck"), lambda: timm.create_model("mobilenetv2_100")],
    ids=["with shortcut and ReLU", "some without"],
)
def test_one_operator_takes_convolution_attention_shortcut_and_relu(build, name):
    model = build().double()
    insert_(model, name)
    in_play(model)
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    deployed = in_form(model, x, "epilogue")
    assert any(isinstance(module, ConvTail) for module in deployed.modules())
    assert not any(isinstance(module, Tail) for module in deployed.modules())
    with torch.no_grad():
        assert relative_error(deployed(x), model(x)) < 1e-9
        assert relative_error(copy.deepcopy(deployed)(x[:1]), model(x[:1])) < 1e-9


@pytest.mark.parametrize("name", ["gct", "srm", "ge"])
def test_gates_that_read_the_map_run_through_recalibrate(name):
    model = cifar_resnet(20, block="bottleneck").double()
    insert_(model, name)
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    deployed = in_form(in_play(model), x, "tail")
    assert sum(isinstance(module, Tail) for module in deployed.modules()) == 6
    with torch.no_grad():
        assert relative_error(deployed(x), model(x)) < 1e-9


def test_kernels_are_for_eager_mode_on_a_gpu_and_the_epilogue_only_where_it_is_measured():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")

    def forms(name, target, device):
        graph = simplify(trace(cifar_resnet(20, block="bottleneck", attention=name)))
        site = sites_of(graph, torch.zeros(1, 3, 32, 32))[0]
        return form_by_rule(site, target, device), forms_to_measure(site, target, device)

    assert forms("se", "eager", gpu) == ("tail", ["map", "input", "tail", "epilogue"])
    assert forms("srm", "eager", gpu) == ("tail", ["map", "tail"])
    assert forms("se", "eager", cpu) == ("input", ["map", "input"])
    assert forms("srm", "compile", gpu) == ("map", ["map"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_means_of_what_the_taps_of_a_3x3_convolution_see_are_kept_in_float32(dtype):
    h = (torch.rand(2, 3, 60, 50) + 100).to(dtype)  # sums beyond what float16 holds
    taps = tap_means(h)
    seen = torch.nn.functional.unfold(h.double(), 3, padding=1).mean(2)
    assert taps.dtype == torch.float32
    torch.testing.assert_close(taps.double(), seen, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", ["map", "input", "tail", "epilogue"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_form_runs_in_half_precision(dtype, form):
    for name in ("ab", "eca", "multi_se", "se"):
        model = in_play(cifar_resnet(20, block="bottleneck", attention=name))
        x = torch.randn(2, 3, 32, 32)
        deployed = in_form(model, x, form).to(dtype)
        with torch.no_grad():
            got = deployed(x.to(dtype))
            assert got.dtype == dtype
            assert relative_error(got, model(x)) < (1e-1 if dtype == torch.bfloat16 else 2e-2)


def test_one_attention_module_may_serve_two_convolutions():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 1)
            self.attention = recalib.create_attention("se", 16)

        def forward(self, x):
            y = self.attention(self.narrow(x))
            return torch.relu(self.attention(self.wide(y)) + y)

    model = in_play(Shared().double())
    x = torch.randn(2, 8, 5, 3, dtype=torch.double)
    for form in ("map", "input", "tail", "epilogue"):
        with torch.no_grad():
            assert relative_error(in_form(model, x, form)(x), model(x)) < 1e-9


def test_an_addition_that_spreads_its_operand_or_weighs_it_is_no_shortcut():
    class Added(nn.Module):
        def __init__(self, add):
            super().__init__()
            self.conv = nn.Conv2d(8, 16, 1)
            self.attention = recalib.create_attention("se", 16)
            self.add = add

        def forward(self, x):
            return torch.relu(self.add(self.attention(self.conv(x)), self.conv(x)))

    x = torch.randn(2, 8, 5, 3, dtype=torch.double)
    for add in (lambda u, r: u + r[:, :, :1], lambda u, r: torch.add(u, r, alpha=0.5)):
        model = in_play(Added(add).double())
        for form in ("map", "tail", "epilogue"):
            with torch.no_grad():
                assert relative_error(in_form(model, x, form)(x), model(x)) < 1e-9
