"""Cost: against counts made by hand, on networks that must come out of it untouched."""

import copy
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recalib import RecalibError
from recalib.attention import SE
from recalib.cost import cost
from recalib.errors import WorkFailed
from recalib.models import cifar_resnet, create_model
from recalib.ops.gemm import recalibrated_conv
from recalib.surgery import fuse_, insert_

FLOAT = 4  # bytes


def test_resnet50_has_the_multiply_adds_of_its_convolutions_and_last_layer():
    model = torchvision.models.resnet50().eval()
    counted = cost(model).macs
    by_hand = []

    def convolution(layer, _inputs, output):
        by_hand.append(output.numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(convolution)
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    assert counted == sum(by_hand) == 4_089_184_256


@pytest.mark.parametrize("name", ["resnext50_32x4d", "mobilenet_v2", "convnext_tiny", "vit_b_32"])
def test_multiply_adds_are_half_of_what_torchs_own_counter_gives_for_a_real_run(name):
    model = torchvision.models.get_model(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert cost(model).macs == counter.get_total_flops() // 2


def test_squeeze_and_excitation_adds_its_two_small_layers_and_little_else():
    plain, with_se = torchvision.models.resnet50(), torchvision.models.resnet50()
    insert_(with_se, "se")
    channels = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    assert cost(with_se).macs - cost(plain).macs == sum(2 * c * (c // 16) for c in channels)
    assert cost(with_se).params - cost(plain).params == 2_530_992


class TestFlops:
    """Standard convention, on a map of 2 images, 8 channels, 6 x 6: 576 elements."""

    @pytest.mark.parametrize(
        ("module", "flops"),
        [
            (nn.ReLU(), 576),
            (nn.ReLU(inplace=True), 576),
            (nn.Sigmoid(), 576),
            (nn.BatchNorm2d(8), 2 * 576),
            (nn.AdaptiveAvgPool2d(1), 576),
            (nn.AdaptiveAvgPool2d(2), 576),
            (nn.AvgPool2d(3, stride=2), 576),
            (nn.MaxPool2d(2), 576),
            (nn.Upsample(scale_factor=2, mode="bilinear"), 4 * 576),
            (nn.GroupNorm(2, 8), 5 * 576),
            (nn.Flatten(), 0),
            (nn.ZeroPad2d(1), 0),
            (nn.Upsample(scale_factor=2), 0),
            (nn.Conv2d(8, 4, 3, padding=1, bias=False), 2 * 2 * 36 * 4 * 8 * 9),
            (nn.Conv2d(8, 4, 3, padding=1, bias=True), 2 * 2 * 36 * 4 * 8 * 9),
            (nn.Conv2d(8, 8, 3, padding=1, groups=8), 2 * 2 * 36 * 8 * 9),
            (nn.ConvTranspose2d(8, 4, 2, stride=2), 2 * 2 * 36 * 8 * 4 * 4),
            (nn.Sequential(nn.Flatten(), nn.Linear(288, 5)), 2 * 2 * 288 * 5),
            (nn.Dropout(), 0),
        ],
        ids=repr,
    )
    def test_of_a_layer(self, module, flops):
        assert cost(module, (2, 8, 6, 6)).flops == flops

    def test_double_the_multiply_adds_and_the_rest_in_a_network(self):
        plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        counted = cost(plain, (1, 3, 4, 4))
        assert counted.flops == 2 * counted.macs + 3 * 8 * 16


class TestBytes:
    """Reads and writes on the same map."""

    @pytest.mark.parametrize(
        ("module", "floats"),
        [
            (nn.ReLU(), 2 * 576),
            (nn.ReLU(inplace=True), 2 * 576),
            (nn.BatchNorm2d(8), 2 * 576 + 4 * 8),
            (nn.AdaptiveAvgPool2d(1), 576 + 16),
            (nn.Flatten(), 0),
            (nn.Conv2d(8, 4, 3, padding=1), 576 + 4 * 8 * 9 + 4 + 288),
            (nn.Sequential(nn.Flatten(), nn.Linear(288, 5)), 576 + 288 * 5 + 5 + 10),
        ],
        ids=repr,
    )
    def test_of_a_layer(self, module, floats):
        assert cost(module, (2, 8, 6, 6)).bytes_moved == FLOAT * floats

    def test_a_gate_that_is_expanded_before_it_multiplies_is_read_at_its_small_size(self):
        class Gated(nn.Module):
            def forward(self, x):
                return x * x.mean((2, 3), keepdim=True).expand_as(x)

        assert cost(Gated(), (2, 8, 6, 6)).bytes_moved == FLOAT * ((576 + 16) + (576 + 16 + 576))

    def test_a_channels_last_map_is_as_large_as_any_other(self):
        model = cifar_resnet(8)
        before = cost(model, (1, 3, 32, 32))
        assert cost(model.to(memory_format=torch.channels_last), (1, 3, 32, 32)).bytes_moved == before.bytes_moved

    @pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.bfloat16, 2), (torch.float16, 2)])
    def test_follow_the_precision_of_the_network(self, dtype, size):
        single, other = cifar_resnet(8), cifar_resnet(8).to(dtype)
        assert FLOAT * cost(other, (1, 3, 32, 32)).bytes_moved == size * cost(single, (1, 3, 32, 32)).bytes_moved


class WrittenWith(nn.Module):
    """One squeeze-and-excitation in the four spellings that other counters tell apart."""

    def __init__(self, pool: str, layers: str) -> None:
        super().__init__()
        layer = nn.Linear if layers == "linear" else lambda i, o: nn.Conv2d(i, o, 1)
        self.pool, self.linear = pool, layers == "linear"
        self.fc1, self.fc2 = layer(32, 2), layer(2, 32)

    def forward(self, x):
        m = x.mean((2, 3), keepdim=True) if self.pool == "mean" else nn.functional.adaptive_avg_pool2d(x, 1)
        m = m.flatten(1) if self.linear else m
        gate = self.fc2(self.fc1(m).relu()).sigmoid()
        return x * (gate[:, :, None, None] if self.linear else gate)


def test_one_function_costs_the_same_however_it_is_written():
    size = (2, 32, 7, 7)
    written = [WrittenWith(pool, layers) for pool in ("mean", "adaptive") for layers in ("linear", "convolution")]
    found = {(c.params, c.macs, c.flops, c.bytes_moved) for c in (cost(m, size) for m in (*written, SE(32)))}
    assert len(found) == 1


class TestModules:
    """The network's parts."""

    def test_own_shares_add_up_to_the_network_and_the_root_is_all_of_it(self):
        found = cost(cifar_resnet(8, attention="srm"), (2, 3, 32, 32))
        for quantity in ("params", "macs", "flops", "bytes_moved"):
            total = getattr(found, quantity)
            assert sum(getattr(part.own, quantity) for part in found.modules.values()) == total
            assert getattr(found.modules[""], quantity) == total

    def test_a_parent_is_its_children_and_its_own(self):
        found = cost(cifar_resnet(8, attention="eca"), (1, 3, 32, 32)).modules
        children = [part for name, part in found.items() if name.startswith("layer2.0.") and name.count(".") == 2]
        assert found["layer2.0"].bytes_moved == sum(c.bytes_moved for c in children) + found["layer2.0"].own.bytes_moved

    def test_attention_has_a_row_with_its_pooling_and_its_integration(self):
        row = cost(cifar_resnet(8, attention="eca"), (1, 3, 32, 32)).modules["layer1.0.attention"]
        chw = 16 * 32 * 32
        assert (row.kind, row.params, row.macs) == ("ECA", 3, 16 * 3)
        assert row.flops == chw + 2 * 16 * 3 + 16 + chw
        assert row.bytes_moved == FLOAT * ((chw + 16) + (16 + 3 + 16) + (16 + 16) + (chw + 16 + chw))

    def test_a_module_used_twice_counts_twice_but_its_parameters_once(self):
        layer = nn.Conv2d(4, 4, 1)
        once, twice = cost(nn.Sequential(layer), (1, 4, 5, 5)), cost(nn.Sequential(layer, layer), (1, 4, 5, 5))
        assert (twice.macs, twice.params) == (2 * once.macs, once.params)


def test_a_batch_costs_its_images():
    model = cifar_resnet(8, attention="se")
    one, eight = cost(model, (1, 3, 32, 32)), cost(model, (8, 3, 32, 32))
    assert (eight.macs, eight.flops, eight.params) == (8 * one.macs, 8 * one.flops, one.params)
    assert one.bytes_moved < eight.bytes_moved < 8 * one.bytes_moved  # weights are read once a batch


def test_counting_needs_neither_memory_nor_time_for_the_images():
    batch = 4096
    large, small = (cost(torchvision.models.resnet18(), (n, 3, 1024, 1024)) for n in (batch, 1))
    assert large.macs == batch * small.macs


def test_a_network_with_fused_tails_costs_what_it_cost_before():
    model = torchvision.models.resnet18()
    before = cost(model)
    fuse_(model)
    after = cost(model)
    assert (after.params, after.macs, after.flops, after.bytes_moved) == (
        before.params,
        before.macs,
        before.flops,
        before.bytes_moved,
    )


class Epilogue(nn.Conv2d):
    """A 1x1 convolution as a deployed network on a GPU may run it."""

    def forward(self, x):
        return recalibrated_conv(x, self.weight.flatten(1), self.bias, None, None, None, True)


def test_a_convolution_that_recalibrates_has_the_multiply_adds_of_a_convolution():
    size = (2, 8, 5, 7)
    assert cost(Epilogue(8, 16, 1), size).macs == cost(nn.Conv2d(8, 16, 1), size).macs == 2 * 8 * 16 * 5 * 7


class Counting(nn.Module):
    """Writes to its buffers whenever it runs, in both ways there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x):
        self.runs += 1
        self.last = x.mean((0, 2, 3))
        return nn.functional.dropout(x, training=True)


def test_a_network_and_the_random_numbers_are_left_as_they_were():
    model = nn.Sequential(Counting(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    model[2].eval()
    before = copy.deepcopy(model.state_dict())
    tensors = [(name, id(t), t.data_ptr()) for name, t in [*model.named_parameters(), *model.named_buffers()]]
    modes, generator = [m.training for m in model.modules()], torch.get_rng_state()
    attributes = [set(vars(m)) for m in model.modules()]
    cost(model, (2, 3, 8, 8))
    assert tensors == [(name, id(t), t.data_ptr()) for name, t in [*model.named_parameters(), *model.named_buffers()]]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert attributes == [set(vars(m)) for m in model.modules()]
    assert torch.equal(generator, torch.get_rng_state())


def test_a_network_that_fails_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 4, 1)).train()
    with pytest.raises(WorkFailed):
        cost(model)
    assert all(m.training for m in model.modules())
    assert not any(isinstance(p, torch._subclasses.FakeTensor) for p in model.parameters())
    assert cost(model[0]).macs == 3 * 4 * 224 * 224


def test_gradients_inference_mode_and_the_meta_device_change_nothing():
    model = cifar_resnet(8)
    expected = cost(model, (1, 3, 32, 32))
    with torch.inference_mode():
        assert cost(model, (1, 3, 32, 32)) == expected
    assert cost(model.to("meta"), (1, 3, 32, 32)) == expected


def test_a_network_that_is_wrapped_for_several_devices_costs_what_it_wraps():
    model = cifar_resnet(8)
    assert cost(nn.DataParallel(model), (1, 3, 32, 32)) == cost(model, (1, 3, 32, 32))


def test_a_frozen_network_and_one_in_evaluation_mode_cost_the_same():
    model = cifar_resnet(8)
    expected = cost(model, (1, 3, 32, 32))
    assert cost(model.eval().requires_grad_(False), (1, 3, 32, 32)) == expected


@pytest.mark.parametrize("size", [(224, 224), 224, (1, 3, 0, 224), (1, 3, 2.5, 2), ("1", 3, 4, 4), None])
def test_an_input_size_that_is_not_three_to_five_positive_numbers_is_named(size):
    with pytest.raises(RecalibError, match=r"input_size=.*: positive numbers") as caught:
        cost(nn.ReLU(), size)
    assert repr(size) in str(caught.value)


def test_a_network_that_cannot_take_the_images_fails_with_their_size():
    with pytest.raises(WorkFailed, match=r"ResNet cannot run on images of size \(1, 4, 224, 224\): .*4 channels"):
        cost(torchvision.models.resnet18(), (1, 4, 224, 224))


def test_a_detector_has_no_fixed_cost():
    detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(WorkFailed, match=r"SSD has no fixed cost on images of size \(1, 3, 224, 224\)") as caught:
        cost(detector)
    assert "\n" not in str(caught.value)


def test_counting_needs_torch_alone():
    code = "import recalib.cost, sys; print(*(m for m in ('timm', 'torchvision', 'rich') if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_a_module_with_two_names_comes_out_untouched():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    network.again = network[1]
    weights = dict(network.named_parameters(remove_duplicate=False))
    assert cost(network, (1, 3, 8, 8)).params == 3 * 4 + 4 + 4 * 4 + 4
    assert all(weights[name] is tensor for name, tensor in network.named_parameters(remove_duplicate=False))


class Strided(nn.Module):
    """Sizes that it holds as a plain tensor, and what it saw last: as a YOLO's head."""

    def __init__(self):
        super().__init__()
        self.conv, self.stride, self.seen = nn.Conv2d(3, 4, 1), torch.tensor([8.0, 16.0]), None

    def forward(self, x):
        self.seen = self.conv(x)
        return self.seen + sum(torch.full((1, 4, 1, 1), stride) for stride in self.stride)


def test_plain_tensors_keep_their_values_and_what_a_pass_writes_is_undone():
    model = Strided()
    stride = model.stride
    assert cost(model, (1, 3, 8, 8)).macs == 3 * 4 * 64
    assert model.stride is stride
    assert model.seen is None


def test_a_yolo_costs_what_its_authors_print_and_is_left_as_it_was():
    pytest.importorskip("ultralytics")
    model = create_model("yolo11n.yaml").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)[0].clone()
        assert round(2 * cost(model, (1, 3, 640, 640)).macs / 1e9, 1) == 6.5  # docs.ultralytics.com: 6.5 B FLOPs
        cost(model, (1, 3, 64, 64))
        assert torch.equal(model(x)[0], expected)
