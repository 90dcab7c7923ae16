import pytest
import torch

from recalib.detection.detectors import build_detector
from recalib.measure.detector_latency import rows, see_much_, time_in_turn, with_deployed_backbone

SIZE = (320, 416)


def test_busy_detectors_have_a_thousand_proposals_and_a_hundred_masks_at_the_same_places():
    proposals, sizes = [], {"min_size": min(SIZE), "max_size": max(SIZE)}
    for attention in (None, "se"):
        detector = build_detector("maskrcnn_resnet18_fpn", num_classes=3, attention=attention, **sizes).eval()
        see_much_(detector)
        detector.rpn.register_forward_hook(lambda module, inputs, output: proposals.append(output[0][0]))
        with torch.inference_mode():
            (found,) = detector([torch.rand(3, *SIZE)])
        assert found["masks"].shape == (100, 1, *SIZE)
    assert proposals[0].shape == (1000, 4)
    assert torch.equal(*proposals)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "ssd512_resnet34"])
def test_a_deployed_backbone_gives_the_same_maps(name):
    sizes = {"min_size": 64, "max_size": 96} if "fpn" in name else {}
    torch.manual_seed(0)
    detector = build_detector(name, num_classes=3, attention="eca", **sizes).eval()
    x = torch.randn(1, 3, 64, 96) if "fpn" in name else torch.randn(1, 3, 512, 512)
    deployed = with_deployed_backbone(detector, *x.shape[:1], *x.shape[2:])
    assert deployed.backbone.body is not detector.backbone.body
    with torch.inference_mode():
        before, after = detector.backbone(x), deployed.backbone(x)
    for key, features in before.items():
        torch.testing.assert_close(after[key], features, rtol=1e-3, atol=1e-4 * float(features.abs().max()))


def test_every_detector_is_timed_once_a_round_in_turn():
    detectors = {
        (module, False): build_detector("retinanet_resnet18_fpn", num_classes=3, min_size=64, max_size=64).eval()
        for module in ("baseline", "eca")
    }
    order = []
    for form, detector in detectors.items():
        detector.register_forward_pre_hook(lambda module, inputs, name=form[0]: order.append(name))
    times = time_in_turn(detectors, [torch.rand(3, 64, 64)], rounds=2)
    assert order == ["baseline", "eca"] * 3
    assert {len(samples) for parts in times.values() for samples in parts.values()} == {2}


def test_overheads_are_over_the_faster_form_of_the_plain_detector():
    rounds = range(10)
    times = {
        ("baseline", False): {"backbone": [3.0 + 0.01 * i for i in rounds], "total": [4.0 + 0.01 * i for i in rounds]},
        ("baseline", True): {"backbone": [1.0 + 0.01 * i for i in rounds], "total": [2.0 + 0.01 * i for i in rounds]},
        ("eca", True): {"backbone": [2.0 + 0.01 * i for i in rounds], "total": [3.0 + 0.01 * i for i in rounds]},
    }
    found = rows(times)
    assert [row["overhead"]["ratio"] for row in found] == pytest.approx([4.045 / 2.045, 1, 3.045 / 2.045])
    assert [row["overhead"]["distinguishable"] for row in found] == [True, False, True]
    assert found[2]["parts_ms"] == {
        "backbone": {"median": pytest.approx(2.045), "samples": times["eca", True]["backbone"]}
    }
