"""The paper's printed times."""

import pytest

from recalib.choose.published_times import times


def test_overheads_are_those_of_table_2():
    torch, tensorrt = times("timm:resnet50.a1_in1k")
    assert (torch.framework, tensorrt.framework) == ("PyTorch", "TensorRT")
    assert {module: round(100 * (ratio - 1)) for module, ratio in torch.overheads().items()} == {
        "ab": 21, "eca": 46, "se": 64, "srm": 77, "multi_se": 168,
    }  # fmt: skip
    assert tensorrt.overheads()["ab"] == pytest.approx(2.19 / 1.98)


def test_other_networks_have_none():
    assert times("mobilenetv2_100") == times("resnet101") == times("none") == []
