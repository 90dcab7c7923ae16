"""Detectors: the parts they are made of, and whose weights they start from."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.ops import FrozenBatchNorm2d

import recalib
from recalib.detection.checkpoints import load_detector, write_detector
from recalib.detection.detectors import DETECTORS, build_detector, build_from_recipe
from recalib.detection.recipes import DetectionRecipe
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.surgery import inserted
from recalib.surgery.checkpoints import save_backbone

SMALL = {"min_size": 64, "max_size": 96, "num_classes": 4}
TARGETS = [{"boxes": torch.tensor([[5.0, 6, 40, 50]]), "labels": torch.tensor([2])} for _ in range(2)]


def checkpoint(tmp_path, network, name="backbone.safetensors"):
    recalib.save_checkpoint(network, tmp_path / name)
    return tmp_path / name


@pytest.fixture
def plain(tmp_path):
    """A classifier that has seen something: its norms have statistics of their own."""
    torch.manual_seed(0)
    network = resnet18(num_classes=7)
    network(torch.randn(4, 3, 32, 32) + 1)
    return network


@pytest.mark.parametrize(
    ("name", "published"), [("fasterrcnn_resnet50_fpn", 41.53), ("maskrcnn_resnet50_fpn", 44.18)]
)  # BangguWu/ECANet's README
def test_parameters_are_those_of_eca_nets_coco_table_within_a_percent(name, published, tmp_path):
    weights = checkpoint(tmp_path, resnet50())
    ours = build_detector(name, num_classes=81, attention="eca", backbone_weights=weights, norms="batch")
    assert sum(p.numel() for p in ours.parameters()) / 1e6 == pytest.approx(published, rel=0.01)
    # their figures leave out what is not trained: the stem and the first stage
    trained = sum(p.numel() for p in ours.parameters() if p.requires_grad) / 1e6
    assert trained == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("name", [name for name in DETECTORS if "resnet" in name])
def test_attention_is_at_every_residual_block_of_the_backbone_and_nowhere_else(name):
    blocks = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}
    with torch.device("meta"):
        detector = build_detector(name, num_classes=5, attention="eca")
    sites = inserted(detector).sites
    depth = int(name.split("resnet")[1].split("_")[0])
    assert len(sites) == blocks[depth]
    assert all(site.name.startswith("backbone.body.layer") for site in sites)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "maskrcnn_resnet18_fpn", "retinanet_resnet18_fpn"])
def test_it_is_called_as_torchvisions_are(name):
    detector = build_detector(name, attention="se", **SMALL)
    images = [torch.rand(3, 64, 80), torch.rand(3, 70, 60)]
    masks = [{**target, "masks": torch.ones(1, *image.shape[1:], dtype=torch.uint8)} for target, image in
             zip(TARGETS, images, strict=True)]  # fmt: skip
    losses = detector.train()(images, masks)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in detector.backbone.parameters() if p.requires_grad)
    predictions = detector.eval()(images)
    assert {"boxes", "labels", "scores"} <= predictions[0].keys()


def test_frozen_norms_stay_and_the_norms_of_srm_learn(plain, tmp_path):
    weights = checkpoint(tmp_path, plain)
    detector = build_detector("fasterrcnn_resnet18_fpn", attention="srm", backbone_weights=weights, **SMALL)
    body = detector.backbone.body
    assert isinstance(body.layer1[0].bn1, FrozenBatchNorm2d)
    assert type(body.layer1[0].attention.bn) is nn.BatchNorm1d
    for placement in inserted(body).placements:  # they begin at zero, where their norm has nothing to learn from
        nn.init.normal_(body.get_submodule(placement.site.name).attention.weight)
    before = {key: value.clone() for key, value in body.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], 0.01)
    detector.train()
    sum(detector([torch.rand(3, 64, 64) for _ in TARGETS], TARGETS).values()).backward()
    optimizer.step()
    changed = {key for key, value in body.state_dict().items() if not torch.equal(value, before[key])}
    norms = [name for name, module in body.named_modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(norms) == 20
    assert not any(key.startswith(tuple(f"{name}." for name in norms)) for key in changed)
    for i in range(1, 5):  # also in the stage whose convolutions are not trained
        for key in ("weight", "bias", "running_mean", "running_var"):
            assert f"layer{i}.0.attention.bn.{key}" in changed
    assert "layer1.0.conv1.weight" not in changed
    assert "layer2.0.conv1.weight" in changed


def test_frozen_norms_compute_what_the_classifier_computed(plain, tmp_path):
    detector = build_detector("retinanet_resnet18_fpn", backbone_weights=checkpoint(tmp_path, plain), **SMALL)
    x = torch.randn(2, 3, 64, 64)
    y = plain.eval().layer2(plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(x))))))
    torch.testing.assert_close(detector.train().backbone.body(x)["0"], y, rtol=1e-4, atol=1e-4)


def test_the_pretrained_column_keeps_the_attention_of_the_weights(plain, tmp_path):
    recalib.insert_(plain, "eca", kernel_size=(3, 5, 5, 7))
    weights = checkpoint(tmp_path, plain)
    for attention in ("eca", None):
        detector = build_detector("fasterrcnn_resnet18_fpn", attention=attention, backbone_weights=weights, **SMALL)
        loaded = detector.backbone.body.layer4[1].attention.conv.weight
        assert torch.equal(loaded, plain.layer4[1].attention.conv.weight)
        assert loaded.requires_grad


def test_the_scratch_column_puts_fresh_attention_on_plain_weights(plain, tmp_path):
    weights = checkpoint(tmp_path, plain)
    detector = build_detector(
        "fasterrcnn_resnet18_fpn", attention="eca", identity=True, backbone_weights=weights, **SMALL
    )
    assert torch.equal(detector.backbone.body.layer3[0].conv2.weight, plain.layer3[0].conv2.weight)
    assert len(inserted(detector).sites) == 8


def test_weights_with_another_attention_are_refused(plain, tmp_path):
    recalib.insert_(plain, "se")
    weights = checkpoint(tmp_path, plain)
    with pytest.raises(RecalibError, match="attention 'eca': the backbone's weights have se already"):
        build_detector("fasterrcnn_resnet18_fpn", attention="eca", backbone_weights=weights, **SMALL)


def test_weights_of_another_network_are_refused(tmp_path):
    for network, held in ((resnet50(), "torchvision:resnet50"), (create_model("cifar_resnet8"), "cifar_resnet8")):
        weights = checkpoint(tmp_path, network)
        with pytest.raises(RecalibError, match=rf"is of {held}; the backbone is a ResNet-18"):
            build_detector("fasterrcnn_resnet18_fpn", backbone_weights=weights, **SMALL)


@pytest.mark.parametrize("kind", ["timm", "bare backbone", "Klomp's"])
def test_any_checkpoint_that_is_read_can_be_a_backbone(kind, plain, tmp_path):
    path = tmp_path / "weights.pth"
    if kind == "timm":
        plain = create_model("resnet18")
        path = checkpoint(tmp_path, plain)
    elif kind == "bare backbone":
        save_backbone(plain, path)
    else:
        state = {f"module.{key}": value for key, value in plain.state_dict().items()}
        names = [name for name, module in plain.named_modules() if hasattr(module, "downsample")]
        state |= {f"module.{name}.rclb.cfc": torch.randn(plain.get_submodule(name).conv2.out_channels)
                  for name in names}  # fmt: skip
        torch.save({"state_dict": state, "epoch": 3}, path)
    detector = build_detector("fasterrcnn_resnet18_fpn", backbone_weights=path, **SMALL)
    body = detector.backbone.body
    assert torch.equal(body.layer2[1].conv1.weight, plain.layer2[1].conv1.weight)
    assert len(inserted(detector).sites) == (8 if kind == "Klomp's" else 0)


def test_an_unknown_detector_names_the_nearest():
    with pytest.raises(RecalibError, match="unknown detector 'fasterrcnn_resnet51_fpn'; did you mean"):
        build_detector("fasterrcnn_resnet51_fpn", num_classes=2)


def test_an_ssd_takes_no_weights():
    with pytest.raises(RecalibError, match="ssd512_resnet34 is trained from scratch"):
        build_detector("ssd512_resnet34", num_classes=2, backbone_weights=Path("weights"))


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("ssd512_resnet34", {"min_size": 300}, "min_size 300: ssd512_resnet34 has none; leave --min-size at 800"),
        ("retinanet_resnet18_fpn", {"proposals": 50}, "proposals 50: retinanet_resnet18_fpn has none"),
        ("ssd512_resnet34", {"trainable_layers": 3}, "ssd512_resnet34 is trained from scratch"),
    ],
)
def test_settings_that_a_detector_does_not_have_are_refused(model, changes, said):
    with pytest.raises(RecalibError, match=said):
        build_from_recipe(DetectionRecipe(model=model, **changes), 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fasterrcnn_resnet18_fpn", {"attention": "srm", "norms": "frozen", "min_size": 64}),
        ("maskrcnn_resnet18_fpn", {"norms": "group", "min_size": 64}),
        ("retinanet_resnet18_fpn", {"attention": "se", "ibn": "b", "min_size": 64}),
        ("ssd512_resnet34", {"attention": "eca", "ibn": "a"}),
    ],
)
def test_a_detector_that_is_written_is_loaded_as_it_was(name, options, tmp_path):
    torch.manual_seed(1)
    detector = build_detector(name, num_classes=3, **options).eval()
    classes = ("__background__", "cat", "dog")
    write_detector(detector, tmp_path / "last.safetensors", name, classes, options.get("ibn", "none"))
    loaded, names = load_detector(tmp_path)
    assert names == classes
    assert not loaded.training
    image = [torch.rand(3, 70, 90)]
    with torch.no_grad():
        for ours, theirs in zip(loaded(image)[0].values(), detector(image)[0].values(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_classifier_is_no_detector(plain, tmp_path):
    with pytest.raises(RecalibError, match="holds no detector that recalib detect train wrote"):
        load_detector(checkpoint(tmp_path, plain))
