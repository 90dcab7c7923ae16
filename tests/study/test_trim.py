"""`recalib.trim`: which gates it freezes, what comes out, and what it refuses."""

import copy

import pytest
import timm
import torch
from torch import nn

import recalib
from recalib import RecalibError
from recalib.study import trim
from recalib.study.times import SiteTimes
from recalib.study.trim import cheapest


@pytest.fixture
def images():
    return torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(images):
    """An eight-layer network whose second gate does not look at the image, and that sees all classes alike often."""
    torch.manual_seed(0)
    network = recalib.cifar_resnet(8, attention="se", num_classes=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, recalib.attention.SE):
            nn.init.normal_(module.fc1.weight)
            nn.init.normal_(module.fc2.weight, std=2)
    nn.init.zeros_(network.layer2[0].attention.fc2.weight)
    nn.init.normal_(network.fc.weight, std=20)
    with torch.no_grad():
        network.fc.bias -= network(images).mean(0)
    return network


@pytest.fixture
def labels(model, images):
    """What the untrimmed network says, so that it is right everywhere."""
    with torch.no_grad():
        return model(images).argmax(1)


def equal(gates):
    """As if all gates took the same time."""
    return SiteTimes(dict.fromkeys(gates, (1.0, 1.0, 1.0)), full=103.0, plain=100.0)


def test_a_gate_that_does_not_look_at_the_image_goes_first_and_costs_nothing(model, images, labels):
    trimmed = trim(model, images, labels, keep=2, times=equal)
    assert [point.site for point in trimmed.curve][:2] == ["", "layer2.0.attention"]
    assert trimmed.curve[1].chosen_on.divergence == pytest.approx(0, abs=1e-6)
    assert [site.name for site in trimmed.sites if site.frozen] == ["layer2.0"]
    with torch.no_grad():
        torch.testing.assert_close(trimmed.model(images), model(images), rtol=1e-4, atol=1e-5)


def test_the_curve_goes_to_the_last_gate(model, images, labels):
    trimmed = trim(model, images, labels, times=equal)
    assert [point.frozen for point in trimmed.curve] == [0, 1, 2, 3]
    assert trimmed.curve[0].loss.points == 0
    assert all(point.loss.points <= 0.1 for point in trimmed.curve[trimmed.frozen :][:1])


def test_frozen_gates_are_gone_and_the_keys_are_those_of_a_network_with_fewer(model, images, labels, tmp_path):
    trimmed = trim(model, images, labels, keep=1, times=equal).model
    kept = [name for name, _ in trimmed.named_modules() if name.endswith(".attention")]
    assert len(kept) == 1
    path = tmp_path / "trimmed.safetensors"
    recalib.save_checkpoint(trimmed, path)
    loaded = recalib.load_checkpoint(path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), trimmed(images), rtol=0, atol=0)
        deployed = recalib.deploy(loaded, (1, 3, 16, 16))
        torch.testing.assert_close(deployed(images), trimmed(images), rtol=1e-4, atol=1e-5)


def test_a_linear_gate_of_few_channels_is_measured_beside_the_constants_and_never_taken(model, images, labels):
    trimmed = trim(model, images, labels, keep=0, times=equal)
    assert all({"mean", "fit", "logit", "linear"} == site.alone.keys() for site in trimmed.sites)
    assert all(site.linear is not None and site.alone["linear"].divergence >= 0 for site in trimmed.sites)
    assert not any(site.frozen == "linear" for site in trimmed.sites)


def test_the_network_that_is_given_is_not_changed(model, images, labels):
    before = copy.deepcopy(model.state_dict())
    trim(model, images, labels, times=equal)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_the_points_of_the_curve_are_those_of_the_networks_it_stands_for(model, images, labels):
    for keep in (0, 1):
        trimmed = trim(model, images, labels, keep=keep, times=equal)
        with torch.no_grad():
            right = (trimmed.model(images[1::2]).argmax(1) == labels[1::2]).double().mean()
        assert trimmed.curve[trimmed.frozen].loss.points == pytest.approx(100 - 100 * float(right))


def test_a_gate_goes_by_what_it_changes_for_the_time_it_takes():
    assert cheapest({"a": 0.1, "b": 0.3}, {"a": 1.0, "b": 1.0}) == "a"
    assert cheapest({"a": 0.1, "b": 0.3}, {"a": 1.0, "b": 10.0}) == "b"
    assert cheapest({"a": -0.1, "b": 0.3}, {"a": 1.0, "b": 1000.0}) == "a"


def test_time_freezes_as_many_as_it_takes_for_attention_to_cost_so_little(model, images, labels):
    frozen = {share: trim(model, images, labels, time=share, times=equal).frozen for share in (0.03, 0.02, 0.015, 0.0)}
    assert frozen == {0.03: 0, 0.02: 1, 0.015: 2, 0.0: 3}


def test_without_labels_the_loss_is_of_agreement(model, images):
    trimmed = trim(model, images, keep=0, times=equal)
    assert not trimmed.labelled
    with torch.no_grad():
        same = trimmed.model(images[1::2]).argmax(1) == model(images[1::2]).argmax(1)
    assert trimmed.curve[-1].loss.points == pytest.approx(100 - 100 * float(same.double().mean()))


def test_too_few_images_for_the_loss_are_told_with_how_many_it_would_take(model, images):
    trimmed = trim(model, images, loss=30.0, times=equal)
    wide = [note for note in trimmed.notes if "it would take about" in note]
    loss = trimmed.curve[trimmed.frozen].loss
    assert bool(wide) == ((loss.high - loss.low) / 2 > 30)
    assert not trim(model, images, keep=0, times=equal).notes


def test_what_was_stopped_goes_on_from_its_journal(model, images, labels, tmp_path):
    journal = tmp_path / "steps.jsonl"
    whole = trim(model, images, labels, keep=0, times=equal, journal=journal)
    lines = journal.read_text().splitlines()
    assert len(lines) == 5  # times, each gate alone, three steps
    journal.write_text("\n".join([*lines[:3], lines[3][:20]]) + "\n")  # killed in the middle of a line
    again = trim(model, images, labels, keep=0, times=equal, journal=journal)
    assert again.curve == whole.curve
    assert again.sites == whole.sites
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key


def test_a_pre_activation_network_folds_scales_into_its_convolutions(images):
    torch.manual_seed(0)
    network = recalib.cifar_resnet(8, version=2, attention="se", num_classes=4).eval()
    trimmed = trim(network, images, keep=0, times=equal)
    assert trimmed.frozen == 3
    assert trimmed.model.state_dict().keys() == recalib.cifar_resnet(8, version=2, num_classes=4).state_dict().keys()


def test_times_are_measured_where_none_are_given(model, images, labels):
    trimmed = trim(model, images, labels, keep=0)
    assert all(site.ms is not None and site.ms[1] <= site.ms[0] <= site.ms[2] for site in trimmed.sites)


def test_what_cannot_be_trimmed_is_said_in_one_line(model, images, labels):
    with pytest.raises(RecalibError, match="has no attention that can be frozen: insert_ puts it in"):
        trim(recalib.cifar_resnet(8), images)
    outside = recalib.cifar_resnet(8)
    recalib.insert_(outside, "timm:cbam")
    with pytest.raises(RecalibError, match="its 3 attention modules are no gates on moments"):
        trim(outside, images)
    with pytest.raises(RecalibError, match="none of the 3 gates follows a norm or convolution it can fold into"):
        trim(recalib.cifar_resnet(8, version=2, attention="ab"), images)
    with pytest.raises(RecalibError, match="3 labels"):
        trim(model, images, labels[:3])
    with pytest.raises(RecalibError, match="keep 4: should be from 0 to 3"):
        trim(model, images, labels, keep=4, times=equal)


def test_gates_outside_the_contract_stay_and_are_listed(images):
    torch.manual_seed(0)
    network = recalib.cifar_resnet(8, num_classes=4).eval()
    recalib.insert_(network, {0: "se", 2: "timm:gc"})
    trimmed = trim(network, images, keep=0, times=equal)
    assert [site.why_kept for site in trimmed.sites] == ["", "no gate on moments"]
    assert type(trimmed.model.layer3[0].attention) is type(network.layer3[0].attention)


def test_a_network_of_timm_is_trimmed_too():
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3, pretrained=False).eval()
    recalib.insert_(network, "eca")
    images = torch.randn(8, 3, 32, 32)
    trimmed = trim(network, images, keep=4, times=equal)
    assert sum(site.frozen is not None for site in trimmed.sites) == 4
