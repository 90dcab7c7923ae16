"""A network that is no single graph is rewritten part by part, and each part stays what it is."""

import copy
import pickle
import sys
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn

import recalib
from recalib import RecalibError, deploy, insert_
from recalib.deploy.gates import GateFirst

SIZE = (1, 3, 32, 32)


class Child(nn.Module):
    """What a parent reads of it: an attribute, a property, a method."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.scale_factor = 2.0

    @property
    def out_channels(self):
        return self.conv.out_channels

    def features(self, x):
        return self.norm(self.conv(x))

    def forward(self, x):
        return self.features(x).relu()


class Parent(nn.Module):
    """Cannot be traced, for what it does depends on the data."""

    def __init__(self, child):
        super().__init__()
        self.child = child

    def forward(self, x):
        y = self.child(x if x.sum() > 0 else -x)
        assert y.shape[1] == self.child.out_channels
        return self.child.scale_factor * y + self.child.features(x)


def lively(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["eager", "compile", "onnxruntime", "openvino"])
def test_a_traced_part_answers_for_what_its_parent_reads(target):
    model = lively(Parent(Child()))
    deployed = deploy(model, SIZE, target=target)
    x = torch.randn(2, 3, 32, 32)
    same(deployed(x), model(x))
    assert isinstance(deployed, Parent)
    assert isinstance(deployed.child, Child)
    assert type(deployed.child).__name__ == "Child"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    assert deployed.about.parts == ("child",)
    assert list(deployed.about.left) == [""]


def test_a_whole_traced_network_keeps_its_class_attributes_and_methods():
    model = lively(timm.create_model("resnet18", num_classes=10))
    deployed = deploy(model, SIZE)
    x = torch.randn(SIZE)
    assert type(deployed).__name__ == "ResNet"
    assert isinstance(deployed, type(model))
    assert deployed.num_features == 512
    same(deployed.forward_features(x), model.forward_features(x))
    same(deployed.layer1(x.repeat(1, 22, 1, 1)[:, :64]), model.layer1(x.repeat(1, 22, 1, 1)[:, :64]))


def test_hooks_of_the_network_and_of_its_parts_still_run():
    model = lively(timm.create_model("resnet18", num_classes=10))
    seen = {}
    model.register_forward_hook(lambda module, args, y: seen.update(whole=y))
    model.layer2.register_forward_hook(lambda module, args, y: seen.update(stage=y))
    model.layer1[0].bn1.register_forward_hook(lambda module, args, y: seen.update(norm=y.clone()))
    x = torch.randn(SIZE)
    model(x)
    expected = dict(seen)
    deployed = deploy(model, SIZE)
    seen.clear()
    deployed(x)
    assert set(seen) == {"whole", "stage", "norm"}
    for name, y in seen.items():
        same(y, expected[name])


def test_attention_in_a_part_takes_its_form():
    model = lively(Branching(timm.create_model("resnet50", num_classes=8)))
    insert_(model, "se")
    deployed = deploy(model, (1, 3, 64, 64))
    x = torch.randn(2, 3, 64, 64)
    same(deployed(x), model(x))
    assert deployed.about.forms["body.layer1.0.attention"] == "input"
    assert any(isinstance(module, GateFirst) for module in deployed.modules())


class Branching(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x if x.sum() > 0 else -x)


class UpCat(nn.Module):
    """MONAI's BasicUNet concatenates what is a tensor, which nothing is while it is traced."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.Conv2d(11, 8, 3), nn.BatchNorm2d(8))

    def forward(self, x):
        y = self.down(x)
        return self.up(torch.cat([y, x], 1) if isinstance(x, torch.Tensor) else y)


@pytest.mark.parametrize("check", [True, False])
def test_where_a_graph_does_not_run_its_parts_are_taken_with_care(check):
    model = lively(UpCat())
    insert_(model, "eca", where=["up.0"])
    deployed = deploy(model, SIZE, check=check)
    x = torch.randn(2, 3, 32, 32)
    same(deployed(x), model(x))
    assert deployed.about.parts == ("up",)


@pytest.mark.parametrize(
    "make", [lambda: Parent(Child()), lambda: timm.create_model("resnet18")], ids=["parts", "whole"]
)
def test_it_is_copied_pickled_and_moved_but_not_trained(make):
    model = lively(make())
    deployed = deploy(model, SIZE)
    x = torch.randn(SIZE)
    for other in (copy.deepcopy(deployed), copy.deepcopy(copy.deepcopy(deployed))):
        assert torch.equal(other(x), deployed(x))
    if type(model) is not Parent:  # a class of this file cannot be imported by its name
        assert torch.equal(pickle.loads(pickle.dumps(deployed))(x), deployed(x))
    assert deployed.double()(x.double()).dtype == torch.float64
    assert deployed.eval() is deployed
    with pytest.raises(RecalibError, match=f"this {type(model).__name__} is deployed, for inference"):
        deployed.train()


class Optional(nn.Module):
    """What symbolic tracing gets wrong: a symbol is never None, and no tensor."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x, skip):
        y = self.norm(self.conv(x))
        return y if skip is None else y + skip


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Optional(), Optional()

    def forward(self, x):
        y = self.first(x, None)
        return self.second(y, y) if bool(y.isfinite().all()) else y


class Kinds(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y.relu() if isinstance(x, torch.Tensor) else y


@pytest.mark.parametrize("make", [Decoder, Kinds, lambda: Branching(nn.Sequential(Kinds(), Optional2()))])
def test_what_tracing_gets_wrong_is_left_as_it_is(make):
    model = lively(make())
    x = torch.randn(2, 3, 32, 32)
    deployed = deploy(model, SIZE)
    same(deployed(x), model(x))
    assert deployed.about.left
    assert deployed.about.difference <= 1e-4


class Optional2(Optional):
    def forward(self, x, skip=None):
        return super().forward(x, skip)


def test_a_default_argument_keeps_its_default_and_may_still_be_given():
    model = lively(Optional2())
    x = torch.randn(2, 3, 32, 32)
    deployed = deploy(model, SIZE)
    assert deployed.about.parts == ("",)
    same(deployed(x), model(x))
    same(deployed(x, x), model(x, x))
    same(deployed(x, skip=x), model(x, skip=x))


def test_convolutions_that_make_their_weights_are_not_folded():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return nn.functional.conv2d(x, weight, self.bias)

    for conv in (Standardized(3, 8, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 1))):
        model = lively(nn.Sequential(conv, nn.BatchNorm2d(8), recalib.create_attention("se", 8)))
        deployed = deploy(model, SIZE)
        assert deployed.about.difference <= 1e-5
        assert deployed.about.parts == ("",)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_norms_of_any_dimension_are_folded_into_transposed_convolutions_too(dims):
    conv, up, norm = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "ConvTranspose", "BatchNorm"))
    model = lively(nn.Sequential(conv(3, 8, 3), norm(8), nn.ReLU(), up(8, 4, 2, stride=2), norm(4)).double())
    x = torch.randn((2, 3, *(9,) * dims), dtype=torch.float64)
    deployed = deploy(model, x)
    torch.testing.assert_close(deployed(x), model(x), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, norm) for module in deployed.modules())


def test_a_block_with_two_names_is_folded_once():
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    for model in (nn.Sequential(block, nn.ReLU(), block), Branching(nn.Sequential(block, Branching(block)))):
        lively(model)
        x = torch.randn(2, 3, 32, 32)
        same(deploy(model, SIZE)(x), model(x))


def test_detectors_are_rewritten_part_by_part():
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    model = lively(model)
    deployed = deploy(model, (1, 3, 64, 64))
    assert deployed.about.difference <= 1e-4
    assert any(name.startswith("backbone") for name in deployed.about.parts)


def test_a_form_that_changes_the_network_is_not_used(monkeypatch):
    deployment = sys.modules["recalib.deploy.deploy"]
    monkeypatch.setattr(deployment, "work_in_place", lambda part: part.conv.weight.data.mul_(2))
    model = lively(Child())
    with pytest.warns(UserWarning, match="Child in graphs differs by .*left as it is"):
        deployed = deploy(model, SIZE)
    x = torch.randn(SIZE)
    assert torch.equal(deployed(x), model(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not torch.allclose(deploy(model, SIZE, check=False)(x), model(x))


@pytest.mark.parametrize("check", [True, False])
def test_where_no_graph_runs_the_network_is_left_as_it_is(check, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no graph")

    monkeypatch.setattr(sys.modules["recalib.deploy.deploy"], "shapes_of", refuse)
    model = lively(Child())
    with pytest.warns(UserWarning, match="Child in graphs does not run; it is left as it is"):
        deployed = deploy(model, SIZE, check=check)
    x = torch.randn(SIZE)
    assert torch.equal(deployed(x), model(x))
    assert deployed.about.left == {"": "it does not run in graphs"}


def test_what_lies_on_several_devices_or_has_no_data_is_refused_in_one_line(tmp_path):
    apart = lively(Child())
    apart.conv.to("meta")
    for verb in (lambda m: deploy(m, SIZE), lambda m: recalib.export(m, SIZE, tmp_path / "net.onnx")):
        with pytest.raises(RecalibError, match=r"Child has weights without data \(device meta\): load them"):
            verb(apart)


def test_forms_that_cannot_be_measured_are_said():
    with pytest.warns(
        UserWarning, match="measure=True is for networks that can be traced as a whole; Branching is not"
    ):
        deployed = deploy(Branching(lively(Child())), SIZE, measure=True)
    assert "" in deployed.about.left


def louder(part):
    part.fc.weight.data.mul_(2)
    return part


@pytest.mark.parametrize("target", ["eager", "onnxruntime"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_self_check_tells_rounding_from_mistakes_where_a_variance_is_folded(dtype, target, monkeypatch):
    """SRM's variance rounds most, and in half precision folded weights are rounded themselves."""
    torch.manual_seed(0)
    model = recalib.cifar_resnet(8)
    insert_(model, "srm")
    model = lively(model).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deployed = deploy(model, SIZE, target=target)
    assert deployed.about.parts == ("",)
    assert deployed.about.difference <= {torch.float16: 2e-2, torch.bfloat16: 1e-1}.get(dtype, 1e-4)
    deployment = sys.modules["recalib.deploy.deploy"]
    monkeypatch.setattr(deployment, "finish", louder)
    with pytest.warns(UserWarning, match="left as it is"):
        deploy(model, SIZE, target=target)


def test_an_example_may_be_given_in_place_of_a_size():
    deployed = deploy(lively(Child()), torch.randn(3, 3, 9, 9))
    assert deployed.about.input_size == (3, 3, 9, 9)


@pytest.mark.parametrize(
    "wrap",
    [torch.compile, nn.DataParallel, lambda m: torch.jit.trace(m, torch.randn(SIZE))],
    ids=["compiled", "wrapped", "scripted"],
)
def test_wrapped_models_are_refused_in_one_line(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = wrap(lively(Child()))
    with pytest.raises(RecalibError, match="call deploy first"):
        deploy(model, SIZE)
