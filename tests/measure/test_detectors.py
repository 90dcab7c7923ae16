import pytest
import torch

from recalib.detection.detectors import build_detector
from recalib.measure.cells import fastest
from recalib.measure.detectors import DetectorSession, detectors, see_much_, with_deployed_backbone
from recalib.measure.run import run
from recalib.measure.session import How
from recalib.measure.store import read_results
from recalib.runtimes import timer

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
    x = torch.randn(1, 3, 64, 96)
    if "fpn" not in name:
        x = torch.randn(1, 3, 272, 272)  # the least that leaves a map of one pixel
        for stage in ("layer1", "layer2", "layer3", "layer4"):  # one block of each is enough
            setattr(detector.backbone.body, stage, getattr(detector.backbone.body, stage)[:1])
    deployed = with_deployed_backbone(detector, *x.shape[:1], *x.shape[2:])
    assert deployed.backbone.body is not detector.backbone.body
    with torch.inference_mode():
        before, after = detector.backbone(x), deployed.backbone(x)
    for key, features in before.items():
        torch.testing.assert_close(after[key], features, rtol=1e-3, atol=1e-4 * float(features.abs().max()))


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "retinanet_resnet18_fpn"])
def test_parts_of_a_call_take_all_of_its_time(name):
    detector = build_detector(name, num_classes=3, min_size=64, max_size=64).train()
    session = DetectorSession(detector, 1, (64, 64), torch.device("cpu"))
    totals = [timer.time_call(session).latency_ms for _ in range(3)]
    parts = session.parts_ms(totals[1:])
    heads = {"rpn", "roi_heads"} if "rcnn" in name else {"head"}
    assert parts.keys() == {"transform", "backbone", "neck", "rest"} | heads
    samples = [part["samples"] for part in parts.values()]
    assert all(len(values) == 2 and min(values) > 0 for values in samples)
    assert [sum(values) for values in zip(*samples, strict=True)] == pytest.approx(totals[1:])
    assert detector.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in detector.modules())


def test_detectors_are_cells_like_any_network(tmp_path, in_process):
    how = How(threads=1, rounds=5)
    schedule = detectors(["retinanet_resnet18_fpn"], ["eca"], [(64, 96)], [1], how=how)
    found = run(schedule, tmp_path / "latency.jsonl")
    assert [(cell.module, cell.deployed, cell.status) for cell in found.cells] == [
        ("baseline", False, "ok"), ("baseline", True, "ok"), ("eca", False, "ok"), ("eca", True, "ok"),
    ]  # fmt: skip
    assert fastest(found.cells[:2]).overhead.ratio == 1
    assert all(cell.parts_ms["backbone"]["median"] > 0 for cell in found.cells)
    assert read_results([tmp_path]).cells[3].parts_ms == found.cells[3].parts_ms
    assert found.machine["protocol"] == "detector parts"
