"""What does not fit is named in one line, and a given model is then as it was."""

import json
import logging
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50

from recalib import RecalibError
from recalib.models import cifar_resnet
from recalib.surgery import insert_, inspect_checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def plain():
    return resnet18().state_dict()


@pytest.fixture
def small():
    return cifar_resnet(8, attention="eca").state_dict()


def refuse(source, **options):
    """The one line of the error."""
    with pytest.raises(RecalibError) as caught:
        load_checkpoint(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert refuse(tmp_path / "none.pth") == f"{tmp_path / 'none.pth'}: no such file"
    assert refuse(tmp_path) == f"{tmp_path}: is a folder, not a file"


@pytest.mark.parametrize("name", ["x.pth", "x.pth.tar", "x.pt", "x.th", "x.pkl", "x.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_named(tmp_path, small, name, share):
    path = tmp_path / name
    save_file(small, path) if path.suffix == ".safetensors" else torch.save(small, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refuse(path).startswith(f"{path}: not a checkpoint, or cut short")


@pytest.mark.parametrize("content", [b"", b"hello, this is a text\n", b"\x89PNG\r\n\x1a\n" + bytes(99), bytes(1000)])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    assert refuse(tmp_path / name).startswith(f"{tmp_path / name}: not a checkpoint, or cut short")


def test_code_in_a_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save(nn.Linear(1, 1), tmp_path / "whole_model.pth")
    assert "holds a pickled io.open, and nothing but tensors" in refuse(tmp_path / "evil.pth")
    assert "holds a pickled torch.nn.modules.linear.Linear" in refuse(tmp_path / "whole_model.pth")
    assert "not a checkpoint" in refuse(tmp_path / "evil.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["x.pth", "x.pth.tar", "x.th", "x.pkl"])
def test_either_form_of_torch_save_is_read_under_any_name(tmp_path, small, name, zipped):
    torch.save(small, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert inspect_checkpoint(tmp_path / name).architecture == "cifar_resnet8"


def test_safetensors_are_read_under_any_name(tmp_path, small):
    save_file(small, tmp_path / "x.pth")
    assert inspect_checkpoint(tmp_path / "x.pth").architecture == "cifar_resnet8"


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "_orig_mod.module.", "model."])
def test_wrappers_and_prefixes_are_taken_off(small, wrapper, prefix):
    inner = {prefix + key: tensor for key, tensor in small.items()}
    info = inspect_checkpoint({"epoch": 3, wrapper: inner, "optimizer": {"state": {}}})
    assert (info.architecture, info.unexpected) == ("cifar_resnet8", ())
    assert info.metadata == {"epoch": 3, "optimizer": "(dict, not read)"}


def test_a_file_without_a_state_dict_names_what_it_has(tmp_path):
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "x.pth")
    assert "holds no state dict; its entries are epoch, optimizer" in refuse(tmp_path / "x.pth")
    torch.save([1, 2], tmp_path / "y.pth")
    assert "holds a list, not a state dict" in refuse(tmp_path / "y.pth")


@pytest.mark.parametrize("header", ["{", "{}", '{"architecture": {"nom": 1}}', "[]"])
def test_a_broken_header_is_named(tmp_path, small, header):
    save_file(small, tmp_path / "x.safetensors", {"recalib": header})
    assert "its header is broken" in refuse(tmp_path / "x.safetensors")


def test_a_header_cannot_make_a_library_read_another_file(tmp_path, small):
    save_checkpoint(cifar_resnet(8), tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["recalib"])
    header["architecture"] = {"name": "resnet18", "options": {"checkpoint_path": "/etc/passwd"}}
    save_file(small, tmp_path / "x.safetensors", {"recalib": json.dumps(header)})
    assert "unknown option of a stored network 'checkpoint_path'" in refuse(tmp_path / "x.safetensors")


# ---- networks -------------------------------------------------------------------------------------------------------


def test_a_wrong_network_names_the_first_shape_that_differs(plain):
    message = refuse(plain, model=resnet50())
    expected = "layer1.0.conv1.weight: the network has (64, 64, 1, 1), the checkpoint (64, 64, 3, 3)"
    assert message == f"the mapping: {expected}"
    assert refuse(plain, model=resnet50(), strict=False) == message


def test_a_network_that_cannot_be_told_asks_for_the_model():
    assert "cannot be told from its keys (body.weight, ...); give it as model=" in refuse(
        {"body.weight": torch.ones(1)}
    )
    assert inspect_checkpoint({"body.weight": torch.ones(1)}).architecture is None


def test_a_told_network_whose_shapes_differ_is_inspected_and_refused(plain):
    pruned = {**plain, "layer2.0.conv1.weight": torch.zeros(100, 64, 3, 3)}
    line = "layer2.0.conv1.weight: the network has (128, 64, 3, 3), the checkpoint (100, 64, 3, 3)"
    assert inspect_checkpoint(pruned).differing == (line,)
    assert refuse(pruned) == f"the mapping: {line}"


def test_missing_and_unexpected_keys_are_counted_and_named(plain):
    deeper = resnet34()
    lacking = [key for key in deeper.state_dict().keys() - plain.keys() if not key.endswith("num_batches_tracked")]
    named = "layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias, layer1.2.bn1.running_mean"
    expected = f"{len(lacking)} missing: {named} and {len(lacking) - 4} more; strict=False loads the others"
    assert refuse(plain, model=deeper) == f"the mapping: keys do not fit, {expected}"
    wrong = {**plain, "fc.scale": torch.ones(1)}
    del wrong["bn1.weight"]
    message = refuse(wrong)
    assert "1 missing: bn1.weight; 1 unexpected: fc.scale; strict=False loads the others" in message
    info = inspect_checkpoint(wrong)
    assert (info.missing, info.unexpected) == (("bn1.weight",), ("fc.scale",))


def test_without_strict_every_key_left_out_is_said(plain, caplog):
    wrong = {**plain, "fc.scale": torch.ones(1)}
    del wrong["bn1.weight"]
    with caplog.at_level(logging.WARNING, "recalib"):
        network = load_checkpoint(wrong, strict=False)
    assert "bn1.weight is missing and stays as it was" in caplog.text
    assert "fc.scale is unexpected and is left out" in caplog.text
    assert torch.equal(network.conv1.weight, plain["conv1.weight"])


def test_counters_of_batches_may_be_absent_as_in_old_files(plain):
    old = {key: tensor for key, tensor in plain.items() if not key.endswith("num_batches_tracked")}
    assert inspect_checkpoint(old).missing == ()
    assert torch.equal(load_checkpoint(old).fc.weight, plain["fc.weight"])


def test_a_plain_checkpoint_into_an_attentive_network_lacks_only_attention(plain, caplog):
    model = resnet18()
    insert_(model, "eca")
    assert "8 missing: layer1.0.attention.conv.weight" in refuse(plain, model=model)
    load_checkpoint(plain, model=model, strict=False)
    assert all(".attention." in record.getMessage() for record in caplog.records)
    assert torch.equal(model.fc.weight, plain["fc.weight"])


def test_a_given_model_is_as_it_was_after_an_error(plain):
    attentive = resnet18()
    insert_(attentive, "eca")
    file = attentive.state_dict()
    file["fc.scale"] = torch.ones(1)
    model = resnet18()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    refuse(file, model=model)
    refuse(file, model=model, num_classes=3)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert type(model.layer1[0]) is type(resnet18().layer1[0])


def test_attention_in_a_place_that_the_network_does_not_have_is_named():
    attentive = resnet34()
    insert_(attentive, "eca")
    assert "unknown place of attention 'layer1.2'" in refuse(attentive.state_dict(), model=resnet18())


def test_a_wrapped_model_is_refused_with_the_right_order(plain):
    expected = "the model is wrapped in DataParallel: call load_checkpoint first, then wrap"
    assert refuse(plain, model=nn.DataParallel(resnet18())) == expected


# ---- classes --------------------------------------------------------------------------------------------------------


def test_another_number_of_classes_starts_a_new_classifier_and_says_so(plain, caplog):
    network = load_checkpoint(plain, num_classes=7)
    assert network.fc.out_features == 7
    assert "fc starts anew with 7 classes, for the checkpoint has 1000" in caplog.text
    assert torch.equal(network.conv1.weight, plain["conv1.weight"])


def test_the_same_number_of_classes_keeps_the_classifier(plain, caplog):
    assert torch.equal(load_checkpoint(plain, num_classes=1000).fc.weight, plain["fc.weight"])
    assert caplog.text == ""


def test_a_given_model_gets_the_classes_that_were_asked_for(plain):
    model = resnet18(num_classes=3)
    own = model.fc.weight.clone()
    assert "fc.weight: the network has (3, 512), the checkpoint (1000, 512)" in refuse(plain, model=model)
    assert torch.equal(load_checkpoint(plain, model=model, num_classes=3).fc.weight, own)
    assert load_checkpoint(plain, model=model, num_classes=5).fc.out_features == 5


def test_a_backbone_needs_the_number_of_classes(plain, caplog):
    backbone = {key: tensor for key, tensor in plain.items() if not key.startswith("fc.")}
    assert inspect_checkpoint(backbone).num_classes is None
    assert "2 missing: fc.weight, fc.bias" in refuse(backbone)
    assert load_checkpoint(backbone, num_classes=4).fc.out_features == 4
    assert "the checkpoint has no classifier" in caplog.text


def test_classes_of_a_network_without_a_classifier_are_refused(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    save_checkpoint(network, tmp_path / "x.safetensors")
    message = refuse(tmp_path / "x.safetensors", model=network, num_classes=3)
    assert message == "Sequential has no linear classifier, so num_classes does not apply to it"


# ---- hostile and unknown contents -----------------------------------------------------------------------------------


def test_names_of_tensors_that_are_no_text_are_named():
    assert "the name of a tensor is 3; names are text" in refuse({3: torch.ones(2), "fc.weight": torch.ones(2, 2)})


@pytest.mark.parametrize(
    "key",
    ["conv1.weight", "layer1.0.conv2.weight", "layer2.0.downsample.1.weight", "fc.weight", "layer1.0.bn1.weight"],
)
def test_a_tensor_without_dimensions_is_one_error(plain, key):
    refuse({**plain, key: torch.tensor(1.0)})
    with pytest.raises(RecalibError, match=key):
        load_checkpoint({**plain, key: torch.tensor(1.0)})


def test_an_attention_tensor_without_dimensions_is_one_error(plain, small):
    for key in ("fc1.weight", "conv.weight", "weight", "alpha", "assign.weight", "fc.weight", "blend.weight"):
        refuse({**plain, f"layer1.0.attention.{key}": torch.tensor(1.0)})
    refuse({**small, "layer1.0.attention.conv.weight": torch.tensor(1.0)})


@pytest.mark.parametrize(
    "tensors",
    [
        {"fc1.weight": (4, 64), "fc2.weight": (1, 4)},
        {"fc1.weight": (4, 64), "fc2.weight": (64, 4), "slope": (64,)},
        {"fc1.weight": (4, 64), "fc1.bias": (4,), "fc2.weight": (64, 4)},
        {"fc1.weight": (4, 64, 1, 1), "fc2.weight": (64, 4, 1, 1)},
    ],
    ids=["another output", "a tensor more", "half of the biases", "convolutions"],
)
def test_two_layers_are_not_taken_for_squeeze_and_excitation_unless_they_are_its(plain, tensors):
    own = {f"layer1.0.attention.{key}": torch.zeros(shape) for key, shape in tensors.items()}
    assert "layer1.0: no attention module has the tensors attention.fc1.weight" in refuse({**plain, **own})


def test_attention_that_only_the_names_of_tensors_tell_is_said(caplog):
    load_checkpoint(cifar_resnet(8, attention="se").state_dict())
    assert "layer1.0 is taken for se, by the names and shapes of its tensors" in caplog.text
