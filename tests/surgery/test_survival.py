"""What people do to networks after insertion, and that attention is still there, in place and used."""

import copy
import io
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock

from recalib.surgery import insert_, inserted, remove_


def resnet():
    return torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


def mobilenet():
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 1, 1, 1),
        InvertedResidualConfig(16, 5, 32, 24, True, "HS", 2, 1, 1),
    ]
    return torchvision.models.MobileNetV3(blocks, last_channel=32, num_classes=10)


def timm_resnet():
    return timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=10, zero_init_last=False)


def convnext():
    return timm.create_model("convnext_atto", num_classes=10, depths=(1, 1, 1, 1))


NORMS = ["bn1", "layer1.0.bn2", "layer3.0.bn1"]
INSERTED = {
    "torchvision ResNet": (resnet, {}),
    "torchvision MobileNetV3": (mobilenet, {}),
    "timm ResNet": (timm_resnet, {}),
    "timm ConvNeXt": (convnext, {}),
    "named norms": (resnet, {"where": NORMS}),
    "a named stage, before": (resnet, {"where": ["layer2"], "position": "before"}),
}


@pytest.fixture(params=INSERTED)
def model(request, lively):
    make, options = INSERTED[request.param]
    torch.manual_seed(0)
    model = lively(make())
    insert_(model, "multi_se", **options)
    return lively(model).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def assert_same(model, other, images):
    assert list(other.state_dict()) == list(model.state_dict())
    assert inserted(other) == inserted(model)
    torch.testing.assert_close(other(images), model(images))


def assert_attention_is_used(model, images):
    """The output depends on every attention module."""
    module = model.module if hasattr(model, "module") else model
    model(images).sum().backward()
    gradients = [p.grad for name, p in module.named_parameters() if ".attention." in name]
    assert gradients
    assert all(gradient is not None for gradient in gradients)


def test_deepcopy(model, images):
    other = copy.deepcopy(model)
    assert_same(model, other, images)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert model(images).abs().max() > 0
    assert_attention_is_used(model, images)


def test_an_average_of_weights(model, images):
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    torch.testing.assert_close(average.eval()(images), model(images))
    assert_attention_is_used(average, images)


def test_timms_average_of_weights(model, images):
    from timm.utils import ModelEmaV3

    average = ModelEmaV3(model, decay=0.5)
    average.update(model)
    torch.testing.assert_close(average.module(images), model(images))


def test_pickling_by_torch_save(model, images):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert_same(model, torch.load(file, weights_only=False), images)


def test_a_pickled_network_loads_in_a_fresh_process(tmp_path, images):
    model = resnet().eval()
    insert_(model, "se")
    insert_(model, "ab", where=["bn1"])
    torch.save({"model": model, "images": images, "expected": model(images)}, tmp_path / "model.pt")
    program = (
        "import torch; d = torch.load(__import__('sys').argv[1], weights_only=False);"
        "torch.testing.assert_close(d['model'](d['images']), d['expected'])"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "model.pt"], check=True, timeout=120)


def test_conversion_to_synchronised_norms(model, images):
    expected = model(images)
    before = inserted(model)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert inserted(converted) == before
    torch.testing.assert_close(converted(images), expected)
    assert_attention_is_used(converted, images)


def test_timms_conversion_to_synchronised_norms(images, lively):
    from timm.layers import convert_sync_batchnorm

    model = lively(timm.create_model("mobilenetv2_050", num_classes=10)).eval()
    insert_(model, "se")
    expected = model(images)
    converted = convert_sync_batchnorm(model)
    assert any("Sync" in type(module).__name__ for module in converted.modules())
    torch.testing.assert_close(converted(images), expected)


def test_compilation_of_the_whole_graph(model, images):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


def test_compilation_in_training_mode(images):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10, drop_path_rate=0.0).train()
    insert_(model, "srm")
    other = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for network in (compiled, other):
        network(images).square().sum().backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)


def test_export(model, images, tmp_path):
    program = torch.export.export(model, (images,))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(loaded(images), model(images))


def test_functional_calls_with_other_weights(model, images):
    from torch.func import functional_call

    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    assert functional_call(model, zeros, images).abs().max() == 0


@pytest.mark.parametrize("name", ["eca", "se", "srm", "gct", "ge", "timm:se"])
def test_feature_extraction(name, images, lively):
    model = lively(resnet()).eval()
    insert_(model, name)
    features = create_feature_extractor(model, {"layer2": "half", "fc": "end"})(images)
    torch.testing.assert_close(features["end"], model(images))
    model.layer3 = model.layer4 = model.avgpool = model.fc = nn.Identity()
    torch.testing.assert_close(features["half"].flatten(1), model(images))


def test_feature_extraction_of_every_kind_of_network(model, images):
    graph = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(graph(images), model(images))
    torch.testing.assert_close(copy.deepcopy(graph)(images), model(images))


@pytest.mark.parametrize("options", [{"mode": "l1"}, {"kernel_size": (16, 8, 4, 2)}], ids=["gct l1", "ge full"])
def test_feature_extraction_with_mechanisms_outside_the_contract(options, images):
    model = resnet().eval()
    insert_(model, "gct" if "mode" in options else "ge", **options)
    torch.testing.assert_close(create_feature_extractor(model, ["fc"])(images)["fc"], model(images))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "resnetv2_18"])
def test_insertion_into_timms_feature_networks(name, images, lively):
    backbone = lively(timm.create_model(name, features_only=True)).eval()
    before = backbone(images)
    assert insert_(backbone, "se").placements
    after = backbone(images)
    assert [f.shape for f in after] == [f.shape for f in before]
    assert not torch.allclose(after[-1], before[-1])
    remove_(backbone)
    assert torch.equal(backbone(images)[-1], before[-1])


def test_timms_feature_networks_made_after_insertion(images, lively):
    from timm.models._features import FeatureGetterNet, FeatureListNet

    model = lively(timm_resnet()).eval()
    insert_(model, "se")
    lively(model)
    expected = model.forward_features(images)
    assert torch.equal(FeatureListNet(copy.deepcopy(model), out_indices=(3, 4))(images)[-1], expected)
    assert torch.equal(FeatureGetterNet(model, out_indices=2)(images)[-1], expected)


def test_detection_backbones_with_frozen_norms():
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=3)
    detector = FasterRCNN(backbone, num_classes=3, min_size=64, max_size=64).eval()
    image, keys = torch.rand(3, 64, 64), set(detector.state_dict())
    before = backbone(image[None])["0"]
    insertion = insert_(detector, "eca", kernel_size="3357")
    new = set(detector.state_dict()) - keys
    assert insertion.sites[0].name == "backbone.body.layer1.0"
    assert {key.split(".attention.")[0] for key in new} == {site.name for site in insertion.sites}
    assert all(p.requires_grad for p in backbone.body.layer1[0].attention.parameters())
    assert not torch.allclose(backbone(image[None])["0"], before)
    assert set(detector([image])[0]) == {"boxes", "labels", "scores"}


WORKER = """
import os, sys, torch, torchvision
from torch import distributed as dist, nn
from recalib.surgery import insert_

dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
torch.manual_seed(0)
network = torchvision.models.resnet18(num_classes=4, norm_layer=lambda C: nn.GroupNorm(2, C)).double()
insert_(network, "se")
insert_(network, "multi_se", where=["bn1", "layer2"])
images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.arange(4)
nn.functional.cross_entropy(network(images), labels).backward()
alone = [p.grad.clone() for p in network.parameters()]
network.zero_grad()
model = nn.parallel.DistributedDataParallel(network)
half = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
nn.functional.cross_entropy(model(images[half]), labels[half]).backward()
for p, gradient in zip(network.parameters(), alone, strict=True):
    torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-12)
dist.destroy_process_group()
"""


def test_two_processes_in_data_parallel_have_the_gradients_of_one(tmp_path):
    commands = [[sys.executable, "-c", WORKER, str(tmp_path / "store"), str(rank)] for rank in range(2)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
