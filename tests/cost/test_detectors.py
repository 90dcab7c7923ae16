import pytest
import torch
from torch import nn

from recalib.cost.count import cost
from recalib.cost.detectors import FixedWork
from recalib.detection.detectors import build_detector
from recalib.errors import WorkFailed

SIZE = (1, 3, 800, 1280)
# ECA-Net's README, table of COCO 2017, counted by mmdetection at 1280x800
ECANET_GFLOPS = {
    "fasterrcnn_resnet50_fpn": 207.18,
    "fasterrcnn_resnet101_fpn": 283.32,
    "maskrcnn_resnet50_fpn": 275.69,
    "maskrcnn_resnet101_fpn": 351.83,
}


def outputs_of(network, size):
    """Modules that run, the shapes of what goes in, and of what comes out; nothing is computed."""
    seen = []

    def see(module, inputs, output):
        if isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
            seen.append((module, inputs[0].shape, output.shape))

    for module in network.modules():
        module.register_forward_hook(see)
    with torch.no_grad():
        network.eval().to("meta")(torch.empty(size, device="meta"))
    return seen


def macs_of(module, inputs, outputs):
    """By the textbook, apart from the code that is tested."""
    if isinstance(module, nn.Linear):
        return outputs.numel() * module.in_features
    per_output = module.weight[0].numel() if isinstance(module, nn.Conv2d) else 0
    transposed = inputs.numel() * module.weight[0].numel() if isinstance(module, nn.ConvTranspose2d) else 0
    return outputs.numel() * per_output + transposed


@pytest.mark.parametrize("name", ["maskrcnn_resnet18_fpn", "retinanet_resnet18_fpn", "ssd512_resnet34"])
def test_macs_of_every_part_are_those_of_its_layers(name):
    detector = build_detector(name, num_classes=11)
    size = (2, 3, 512, 512) if name.startswith("ssd") else (2, 3, 96, 160)
    work = FixedWork(detector, proposals=7, instances=3)
    found = cost(work, size)
    assert found.params == sum(parameter.numel() for parameter in detector.parameters())
    parts = {module: name.partition(".")[0] for name, module in work.named_modules()}
    expected = dict.fromkeys({name for name in parts.values() if name}, 0)
    for module, inputs, outputs in outputs_of(work, size):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            expected[parts[module]] += macs_of(module, inputs, outputs)
    assert {part: found.modules[part].macs for part in expected} == expected
    assert found.macs == sum(expected.values())
    heads = {"head"} if "rcnn" not in name else {"rpn", "roi_heads"}
    assert expected.keys() == {"backbone", *heads} | ({"neck"} if "fpn" in name else set())


def test_the_second_stage_costs_in_proportion_to_the_proposals():
    detector = build_detector("maskrcnn_resnet18_fpn", num_classes=81)
    few, many = (cost(FixedWork(detector, n, n // 10), (1, 3, 96, 96)).modules for n in (100, 1000))
    assert many["roi_heads"].macs == 10 * few["roi_heads"].macs > 0
    assert many["backbone"].macs == few["backbone"].macs


@pytest.mark.parametrize("name", ECANET_GFLOPS)
def test_figures_of_eca_net_are_ours_and_what_mmdetection_counts_besides(name):
    """Besides MACs it counts biases, 2 for each element that a batch norm sees, 1 for each that a ReLU gives or a
    pooling takes, and takes a transposed convolution for one at the size of its output, four times the work."""
    work = FixedWork(build_detector(name, num_classes=81))
    macs = extra = cost(work, SIZE).macs
    for module, inputs, outputs in outputs_of(work, SIZE):
        extra += outputs.numel() if getattr(module, "bias", None) is not None and hasattr(module, "in_channels") else 0
        extra += outputs.numel() if isinstance(module, nn.Linear) else 0
        extra += 3 * inputs.numel() * module.weight[0].numel() if isinstance(module, nn.ConvTranspose2d) else 0
        extra += 2 * inputs.numel() if isinstance(module, nn.BatchNorm2d) else 0
        extra += outputs.numel() if isinstance(module, nn.ReLU) else 0
        extra += inputs.numel() if isinstance(module, nn.MaxPool2d) else 0
    for block in (m for m in work.backbone.modules() if hasattr(m, "bn3")):  # what ECA's pooling takes
        side = {256: (200, 320), 512: (100, 160), 1024: (50, 80), 2048: (25, 40)}[block.bn3.num_features]
        extra += block.bn3.num_features * side[0] * side[1]
    assert macs / 1e9 < ECANET_GFLOPS[name]
    assert extra / 1e9 == pytest.approx(ECANET_GFLOPS[name], rel=2e-4)


def test_the_detector_itself_has_no_fixed_cost():
    with pytest.raises(WorkFailed):
        cost(build_detector("fasterrcnn_resnet18_fpn", num_classes=3), (1, 3, 96, 96))
