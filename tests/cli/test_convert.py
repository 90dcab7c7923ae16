"""`recalib convert` as a user meets it."""

import json

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from recalib.cli import main
from recalib.models import cifar_resnet, create_model
from recalib.surgery import insert_, inserted, inspect_checkpoint, load_checkpoint


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def eca(tmp_path):
    """A checkpoint as BangguWu/ECANet writes it, of kernels 3577."""
    network = resnet18(num_classes=5)
    insert_(network, "eca", kernel_size="3577")
    renamed = {f"module.{k.replace('.attention.', '.eca.')}": v for k, v in network.state_dict().items()}
    path = tmp_path / "eca_resnet18_k3577.pth.tar"
    torch.save({"epoch": 3, "arch": "eca_[/resnet18]", "state_dict": renamed, "best_prec1": torch.tensor(70.5)}, path)
    return path


def assert_same(state, path):
    expected = load_checkpoint(path).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in state.items())


def test_a_checkpoint_becomes_one_of_ours_and_what_it_is_is_printed(eca, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(eca), str(target)]) == 0
    out = capsys.readouterr().out
    assert "bangguwu (BangguWu/ECANet)" in out
    assert "torchvision:resnet18, 5 classes" in out
    assert "eca in 8 places, kernels 3 5 7 7" in out
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in out
    assert "epoch=3, arch=eca_[/resnet18], best_prec1=70.5" in out
    assert f"wrote {target}" in out
    info = inspect_checkpoint(target)
    assert (info.format, info.kernels) == ("recalib", (3, 5, 7, 7))
    assert info.metadata["converted_from"]["file"] == "eca_resnet18_k3577.pth.tar"
    assert_same(load_checkpoint(target).state_dict(), eca)


def test_the_json_holds_what_was_recognised(eca, tmp_path):
    assert main(["convert", str(eca), str(tmp_path / "x.safetensors"), "--json", str(tmp_path / "x.json")]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    expected = {"format": "bangguwu", "architecture": "torchvision:resnet18", "attention": "eca", "num_classes": 5}
    assert expected.items() <= found.items()
    assert found["kernels"] == [3, 5, 7, 7]
    assert found["missing"] == found["unexpected"] == found["differing"] == []


@pytest.mark.parametrize("name", ["backbone.pth", "backbone.safetensors"])
def test_a_backbone_goes_into_a_detector_with_its_attention(eca, tmp_path, name):
    assert main(["convert", str(eca), str(tmp_path / name), "--to", "detection"]) == 0
    assert inspect_checkpoint(tmp_path / name).num_classes is None
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None).body
    load_checkpoint(tmp_path / name, model=body)
    assert inserted(body).parameters == 44  # ECA-Net's 3577 on ResNet-18
    assert_same(body.state_dict(), eca)


def test_a_backbone_file_is_read_by_torch_alone(eca, tmp_path):
    assert main(["convert", str(eca), str(tmp_path / "b.pth"), "--to", "detection"]) == 0
    tensors = torch.load(tmp_path / "b.pth", weights_only=True)
    assert "layer1.0.attention.conv.weight" in tensors
    assert not [key for key in tensors if key.startswith("fc.")]


def test_a_backbone_is_converted_again(eca, tmp_path):
    assert main(["convert", str(eca), str(tmp_path / "b.pth"), "--to", "detection"]) == 0
    assert main(["convert", str(tmp_path / "b.pth"), str(tmp_path / "c.safetensors"), "--to", "detection"]) == 0
    assert inspect_checkpoint(tmp_path / "c.safetensors").kernels == (3, 5, 7, 7)


def test_a_network_that_cannot_be_told_is_named_by_the_user(tmp_path, capsys):
    network = create_model("mobilenetv2_035", num_classes=7)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    assert main(["convert", str(tmp_path / "x.pth"), str(tmp_path / "x.safetensors")]) == 2
    captured = capsys.readouterr()
    assert "not recognised; give --model" in captured.out
    assert "give it as model=" in captured.err
    named = ["--model", "mobilenetv2_035"]
    assert main(["convert", str(tmp_path / "x.pth"), str(tmp_path / "x.safetensors"), *named]) == 0
    assert "mobilenetv2_035, 7 classes" in capsys.readouterr().out
    assert_same(network.state_dict(), tmp_path / "x.safetensors")
    assert inspect_checkpoint(tmp_path / "x.safetensors").architecture == "mobilenetv2_035"


def test_every_key_that_does_not_fit_is_listed_and_nothing_is_written(tmp_path, capsys):
    wrong = cifar_resnet(8).state_dict()
    del wrong["layer1.0.bn1.weight"], wrong["layer3.0.bn2.bias"]
    torch.save({**wrong, "fc.scale": torch.ones(1)}, tmp_path / "x.pth")
    assert main(["convert", str(tmp_path / "x.pth"), str(tmp_path / "x.safetensors")]) == 2
    captured = capsys.readouterr()
    for key in ("layer1.0.bn1.weight", "layer3.0.bn2.bias", "fc.scale"):
        assert key in captured.out
    assert "2 missing: layer1.0.bn1.weight, layer3.0.bn2.bias; 1 unexpected: fc.scale" in captured.err
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "target", "status", "said"),
    [
        ("none.pth", "x.safetensors", 2, "no such file"),
        ("text.pth", "x.safetensors", 2, "not a checkpoint, or cut short"),
        ("good.pth", "x.pth", 2, "is stored as *.safetensors"),
        ("good.safetensors", "good.safetensors", 2, "would replace the file it is made from"),
        ("good.pth", "none/x.safetensors", 1, "cannot be written (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_status(tmp_path, capsys, source, target, status, said):
    (tmp_path / "text.pth").write_text("hello")
    for name in ("good.pth", "good.safetensors"):
        torch.save(cifar_resnet(8).state_dict(), tmp_path / name)
    assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == status
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["convert", "--help"])
    assert caught.value.code == 0
    assert "recalib convert eca" in capsys.readouterr().out
