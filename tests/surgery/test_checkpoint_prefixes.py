"""Networks whose own names begin with what DDP, torch.compile and trainers put before names."""

import pytest
import torch
from torch import nn

import recalib
from recalib.models import create_model


class Wrapper(nn.Module):
    """As Lightning and YOLO have them: every name begins alike."""

    def __init__(self, attribute):
        super().__init__()
        setattr(self, attribute, create_model("cifar_resnet8"))


def fresh(attribute, seed):
    torch.manual_seed(seed)
    return Wrapper(attribute)


def assert_equal(ours, theirs):
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("attribute", ["model", "module", "backbone"])
@pytest.mark.parametrize("kind", ["ours", "torch.save", "in DDP", "mapping"])
def test_a_network_whose_names_all_begin_alike_is_loaded(attribute, kind, tmp_path):
    source, target = fresh(attribute, 0), fresh(attribute, 1)
    state = source.state_dict()
    if kind == "ours":
        file = tmp_path / "a.safetensors"
        recalib.save_checkpoint(source, file)
    elif kind == "mapping":
        file = state
    else:
        file = tmp_path / "a.pth"
        torch.save({f"module.{name}": t for name, t in state.items()} if kind == "in DDP" else state, file)
    recalib.load_checkpoint(file, model=target)
    assert_equal(source, target)


def test_its_attention_comes_along(tmp_path):
    source = fresh("model", 0)
    recalib.insert_(source, "eca")
    recalib.save_checkpoint(source, tmp_path / "a.safetensors")
    target = recalib.load_checkpoint(tmp_path / "a.safetensors", model=fresh("model", 1))
    assert_equal(source, target)


def test_a_prefix_that_the_network_does_not_have_still_goes(tmp_path):
    source, target = create_model("cifar_resnet8"), create_model("cifar_resnet8")
    torch.save({f"module.model.{name}": t for name, t in source.state_dict().items()}, tmp_path / "a.pth")
    recalib.load_checkpoint(tmp_path / "a.pth", model=target)
    assert_equal(source, target)
