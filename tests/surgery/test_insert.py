"""What `insert_` and `remove_` do to a network, and what they refuse."""

import copy
import json

import pytest
import timm
import torch
import torchvision
from torch import nn

from recalib import RecalibError, deploy
from recalib.attention import AB, ECA, SE, attention_names
from recalib.surgery import Insertion, fuse_, insert_, inserted, remove_, repeat_, sites


def resnet18(**options):
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10, **options)


def snapshot(model):
    """Everything that an error must leave as it was."""
    kinds = [(name, type(module), module.training, set(vars(module))) for name, module in model.named_modules()]
    return kinds, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_untouched(model, before):
    kinds, tensors = snapshot(model)
    assert kinds == before[0]
    assert tensors.keys() == before[1].keys()
    assert all(torch.equal(tensors[name], before[1][name]) for name in tensors)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# Keys


def test_old_keys_stay_and_new_ones_are_the_blocks_attention():
    model = resnet18()
    old = list(model.state_dict())
    insert_(model, "se")
    new = [key for key in model.state_dict() if key not in old]
    assert [key for key in model.state_dict() if key in old] == old
    assert new[:2] == ["layer1.0.attention.fc1.weight", "layer1.0.attention.fc1.bias"]
    assert {key.split(".attention.")[0] for key in new} == {site.name for site in sites(model)}


def test_a_pretrained_checkpoint_loads_before_or_after_insertion(images):
    pretrained = resnet18().state_dict()
    before, after = torchvision.models.resnet18(num_classes=10), torchvision.models.resnet18(num_classes=10)
    before.load_state_dict(pretrained)
    insert_(before, "ab")
    insert_(after, "ab")
    outcome = after.load_state_dict(pretrained, strict=False)
    assert not outcome.unexpected_keys
    assert all(".attention." in key for key in outcome.missing_keys)
    assert torch.equal(before.eval()(images), after.eval()(images))


# What a new module is like


def test_new_modules_take_the_mode_and_precision_of_their_block():
    model = resnet18().double().eval()
    model.layer2.train()
    insert_(model, "srm")
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not model.layer1[0].attention.training
    assert model.layer2[1].attention.bn.training


def test_new_modules_take_the_device_of_their_block():
    with torch.device("meta"):
        model = resnet18()
    insert_(model, "multi_se", identity=True)
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}


def test_of_a_network_on_two_devices_each_module_is_on_its_blocks():
    model = resnet18()
    model.layer3.to("meta")
    insert_(model, "se")
    assert {p.device.type for p in model.layer3[0].attention.parameters()} == {"meta"}
    assert {p.device.type for p in model.layer4[0].attention.parameters()} == {"cpu"}


def test_new_modules_can_be_trained_in_a_frozen_network():
    model = resnet18().requires_grad_(False)
    insert_(model, "eca")
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"attention"}


# identity=True


@pytest.mark.parametrize("name", [*attention_names(), "timm:se", "timm:ecam", "timm:gc"])
@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_identity_leaves_the_outputs_of_a_network_unchanged(network, name, images, lively):
    model = lively(torchvision.models.get_model(network)).eval()
    expected = model(images)
    insert_(model, name, identity=True)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"mode": "l1"}, {"kernel_size": (16, 8, 4, 2)}], ids=["gct l1", "ge full"])
def test_identity_holds_for_mechanisms_outside_the_contract(options, images, lively):
    model = lively(resnet18()).eval()
    expected = model(images)
    insert_(model, "gct" if "mode" in options else "ge", identity=True, **options)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


def test_identity_holds_for_any_factory(images, lively):
    model = lively(resnet18()).eval()
    expected = model(images)
    insert_(model, lambda channels: nn.Conv2d(channels, channels, 1), identity=True)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["se", "eca", "srm", "multi_se", "ge"])
def test_without_identity_a_gate_changes_a_pretrained_network(name, images, lively):
    model = lively(resnet18()).eval()
    expected = model(images)
    insert_(model, name)
    assert (model(images) - expected).abs().max() > 0.01 * expected.abs().max()


# What attention may be


def test_attention_is_a_name_an_alias_a_class_or_a_factory():
    kinds = ["multi_se", "multise", "Multi-SE", SE, lambda channels: SE(channels, reduction=4)]
    names = [inserted_name(kind) for kind in kinds]
    assert names[:4] == ["multi_se", "multi_se", "multi_se", "se"]
    assert names[4].endswith(".<lambda>")


def inserted_name(kind):
    return insert_(resnet18(), kind).placements[0].attention


def test_a_mapping_gives_each_stage_its_own_attention_or_none():
    model = resnet18()
    insertion = insert_(model, {0: "ab", 3: ECA})
    assert {p.site.stage: p.attention for p in insertion.placements} == {0: "ab", 3: "eca"}
    assert isinstance(model.layer1[1].attention, AB)
    assert isinstance(model.layer4[0].attention, ECA)
    assert [site.stage for site in insertion.sites] == [0, 0, 3, 3]


def test_timms_own_layers_can_be_inserted(images):
    from timm.layers import SEModule

    model = resnet18().eval()
    insert_(model, "timm:se", rd_ratio=0.25)
    assert isinstance(model.layer1[0].attention, SEModule)
    assert model.layer1[0].attention.fc1.out_channels == 16
    assert model(images).shape == (2, 10)


def test_recalibs_classes_are_good_as_timms_attn_layer(images):
    model = timm.create_model("resnet18", block_args={"attn_layer": ECA}).eval()
    expected = model(images)
    fuse_(model)
    torch.testing.assert_close(model(images), expected)


# Options


def test_options_go_to_every_site():
    model = resnet18()
    insert_(model, "eca", kernel_size=5)
    assert {block.attention.kernel_size for block in blocks(model)} == {5}


@pytest.mark.parametrize("kernels", [(3, 5, 7, 9), [3, 5, 7, 9], "3579"])
def test_a_tuple_has_one_value_for_each_stage(kernels):
    model = resnet18()
    insert_(model, "eca", kernel_size=kernels)
    assert [block.attention.kernel_size for block in blocks(model)] == [3, 3, 5, 5, 7, 7, 9, 9]


def test_adaptive_kernels_follow_the_channels_of_the_site():
    model = torchvision.models.resnet50()
    insert_(model, "eca", kernel_size="adaptive")
    assert [stage[0].attention.kernel_size for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [
        *(5, 5, 5, 7)
    ]


def test_stages_of_a_filter_are_those_of_the_whole_network():
    model = resnet18()
    insert_(model, "eca", where=lambda site: site.stage >= 2, kernel_size=(3, 5, 7, 9))
    assert [block.attention.kernel_size for block in blocks(model)[4:]] == [7, 7, 9, 9]


def blocks(model):
    return [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]


# Removal and repetition


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_remove_restores_the_network_exactly(network, images):
    model = torchvision.models.get_model(network).eval()
    before, expected = snapshot(model), model(images)
    insertion = insert_(model, "multi_se")
    assert remove_(model) == insertion
    assert_untouched(model, before)
    assert torch.equal(model(images), expected)


def test_remove_undoes_named_sites_too(images):
    model = resnet18().eval()
    before, expected = snapshot(model), model(images)
    insert_(model, "se", where=["layer1.0.bn1", "maxpool"])
    insert_(model, "se")
    remove_(model)
    assert_untouched(model, before)
    assert torch.equal(model(images), expected)


def test_remove_takes_out_what_is_named_and_leaves_the_rest(images):
    model, fewer = resnet18().eval(), resnet18().eval()
    insertion = insert_(model, "se", where=lambda site: site.stage < 2)
    insert_(model, "eca", where=["maxpool"])
    removed = remove_(model, ["layer1.1", "maxpool"])
    assert [site.name for site in removed.sites] == ["maxpool", "layer1.1"]
    left = [placement for placement in insertion.placements if placement.site.name != "layer1.1"]
    assert inserted(model).placements == tuple(left)
    assert removed.parameters + inserted(model).parameters == insertion.parameters + 3
    repeat_(fewer, Insertion(tuple(left), 0))
    fewer.load_state_dict(model.state_dict())
    assert torch.equal(model(images), fewer(images))


def test_remove_refuses_a_site_without_attention():
    model = resnet18()
    insert_(model, "se", where=lambda site: site.stage == 0)
    before = snapshot(model)
    with pytest.raises(RecalibError, match=r"unknown site with attention 'layer2.0'; did you mean layer1.0"):
        remove_(model, ["layer2.0"])
    assert_untouched(model, before)


def test_removing_nothing_is_no_error():
    model = resnet18()
    before = snapshot(model)
    assert remove_(model) == Insertion((), 0)
    assert_untouched(model, before)


def test_an_insertion_can_be_stored_as_json_and_repeated(images):
    first, second = resnet18(), resnet18()
    insert_(first, {1: "se", 2: ECA}, identity=True)
    insert_(first, "ab", where=["maxpool"])
    stored = json.dumps(inserted(first).metadata())
    repeat_(second, Insertion.from_metadata(json.loads(stored)))
    second.load_state_dict(first.state_dict())
    assert inserted(second) == inserted(first)
    assert torch.equal(second.eval()(images), first.eval()(images))


def test_an_insertion_says_what_was_done():
    insertion = insert_(torchvision.models.resnet50(), "eca", kernel_size="3557")
    assert str(insertion) == (
        "eca(kernel_size=3) at 3 sites, eca(kernel_size=5) at 10 sites, eca(kernel_size=7) at 3 sites: 80 parameters"
    )


def test_attention_that_a_network_was_built_with_is_known_and_removed():
    from recalib.models import cifar_resnet

    model = cifar_resnet(8, attention="se")
    assert {p.attention for p in inserted(model).placements} == {"se"}
    remove_(model)
    assert list(model.state_dict()) == list(cifar_resnet(8).state_dict())


def test_squeeze_and_excitation_elsewhere_in_a_block_stays(images):
    model = torchvision.models.mobilenet_v3_small().eval()
    own = sum(isinstance(m, torchvision.ops.SqueezeExcitation) for m in model.modules())
    insert_(model, "eca")
    assert sum(isinstance(m, torchvision.ops.SqueezeExcitation) for m in model.modules()) == own > 0


def test_a_shared_block_keeps_being_shared():
    block = torchvision.models.resnet.BasicBlock(4, 4)
    model = nn.Sequential(block, nn.Sequential(block, nn.ReLU()))
    insertion = insert_(model, "ab")
    assert len(insertion.placements) == 1
    assert model[0] is model[1][0]
    assert insertion.parameters == 4


def test_a_hook_on_the_last_activation_of_a_block_is_still_called(images):
    model = resnet18().eval()
    insert_(model, "eca")
    seen = []
    model.layer4[1].relu.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    model(images)
    assert seen == [(2, 512, 2, 2)] * 2


# Errors


def occupied():
    model = resnet18()
    insert_(model, "ab", where=lambda site: site.name == "layer3.1")
    return model


def distributed(model):
    """In data parallel, a process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()


REFUSED = {
    "tokens only": (
        lambda: timm.create_model("vit_tiny_patch16_224", depth=1),
        "se",
        {},
        r"VisionTransformer has no residual additions or blocks that can be seen.*where=\['patch_embed.proj'\]",
    ),
    "no convolutions": (lambda: nn.Sequential(nn.Linear(3, 3)), "se", {}, r"Sequential has no convolutions"),
    "does not run": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(3, 3)),
        "se",
        {},
        r"Sequential does not run on \(1, 3, 224, 224\), so its sites cannot be seen",
    ),
    "quantised": (
        lambda: nn.Sequential(nn.ReLU(), torch.ao.nn.quantized.Quantize(1.0, 0, torch.quint8)),
        "se",
        {},
        r"quantised: call insert_ first, then quantise",
    ),
    "pattern without a match": (resnet18, "se", {"where": "layer9.*"}, r"unknown module 'layer9\.\*'; did you mean"),
    "class without a match": (resnet18, "se", {"where": "C2f"}, r"unknown module 'C2f'; there are .*BasicBlock"),
    "second module": (occupied, "se", {}, r"layer3\.1 has a module at this site already: attention \(AB\)"),
    "timm's own module": (lambda: timm.create_model("seresnet18"), "se", {}, r"layer1\.0 has .* se \(SEModule\)"),
    "unknown name": (resnet18, "ecca", {}, r"unknown attention 'ecca'; did you mean eca"),
    "unknown timm name": (resnet18, "timm:sse", {}, r"unknown attention layer of timm 'sse'"),
    "unknown option": (resnet18, "se", {"reductoin": 4}, r"unknown option of se 'reductoin'; did you mean reduction"),
    "unknown option of a class": (resnet18, SE, {"reductoin": 4}, r"se: .*reductoin"),
    "bad value": (resnet18, "eca", {"kernel_size": 4}, r"kernel_size=4"),
    "bad value in the last stage": (resnet18, "eca", {"kernel_size": (3, 3, 3, 4)}, r"kernel_size=4"),
    "wrong number of stages": (
        resnet18,
        "eca",
        {"kernel_size": "355"},
        r"kernel_size=\(3, 5, 5\) .* 4 stages \(0 to 3\)",
    ),
    "unknown stage": (resnet18, {4: "se"}, {}, r"unknown stage 4; there are 0, 1, 2, 3"),
    "stages without sites": (resnet18, {3: "se"}, {"where": lambda site: site.stage == 0}, r"stages \[3\]: none of"),
    "an instance": (resnet18, SE(64), {}, r"type SE: give a name, or a class"),
    "no module": (resnet18, lambda channels: channels, {}, r"makes 64; attention is an nn.Module"),
    "unknown module": (resnet18, "se", {"where": ["layer1.2"]}, r"unknown module 'layer1.2'; did you mean layer1"),
    "filter that leaves nothing": (resnet18, "se", {"where": lambda site: False}, r"where leaves none of the 8 sites"),
    "empty list": (resnet18, "se", {"where": []}, r"where=\[\] names no module"),
    "unknown position": (resnet18, "se", {"where": ["maxpool"], "position": "in"}, r"unknown position 'in'"),
    "position without names": (resnet18, "se", {"position": "before"}, r"position='before' needs where="),
    "no map": (resnet18, "se", {"where": ["fc"]}, r"where='fc': after it there is no map \(N, C, H, W\) but \(1, 10\)"),
    "no module of its own": (resnet18, "se", {"where": ["layer1.0.relu_"]}, r"unknown module 'layer1.0.relu_'"),
    "data parallel": (
        lambda: nn.DataParallel(resnet18()),
        "se",
        {},
        r"wrapped in DataParallel: call insert_ first",
    ),
    "distributed": (
        lambda: distributed(resnet18()),
        "se",
        {},
        r"wrapped in DistributedDataParallel: call insert_ first, then wrap",
    ),
    "a number for a place": (resnet18, "se", {"where": 3}, r"where=3: give a kind of sites, a name"),
    "a number among names": (resnet18, "se", {"where": ["layer1", 3]}, r"where=3: give a kind"),
    "everything": (resnet18, "se", {"where": "**"}, r"where='fc': after it there is no map"),
    "every module": (resnet18, "se", {"where": nn.Module}, r"where='fc': after it there is no map"),
    "compiled": (lambda: torch.compile(resnet18()), "se", {}, r"compiled: call insert_ first, then torch.compile"),
    "scripted": (lambda: torch.jit.script(nn.Conv2d(1, 1, 1)), "se", {}, r"scripted: call insert_ first"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_named_and_leaves_the_model_untouched(case):
    make, attention, options, message = REFUSED[case]
    model = make()
    before = snapshot(model)
    with pytest.raises(RecalibError, match=message) as caught:
        insert_(model, attention, **options)
    assert "\n" not in str(caught.value)
    if "compiled" not in case:
        assert_untouched(model, before)


def test_a_model_compiled_in_place_is_refused():
    model = resnet18()
    model.compile()
    for verb in (lambda model: insert_(model, "se"), remove_, fuse_):
        with pytest.raises(RecalibError, match="compiled"):
            verb(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "resnet18", r"takes an nn.Module, got 'resnet18'; recalib.models.create_model makes one of a name"),
        (lambda: torch.compile(resnet18()), "compiled: call .* first"),
        (lambda: torch.jit.script(nn.Conv2d(1, 1, 1)), "scripted: call .* first"),
        (lambda: nn.Sequential(nn.LazyConv2d(8, 1)), "LazyConv2d is not made yet"),
        (lambda: nn.DataParallel(resnet18()), "wrapped in DataParallel"),
    ],
    ids=["a name", "compiled", "scripted", "lazy", "wrapped"],
)
def test_every_verb_refuses_what_it_is_too_late_for(make, message):
    model = make()
    for verb in (lambda m: insert_(m, "se"), remove_, fuse_, sites, deploy):
        with pytest.raises(RecalibError, match=message):
            verb(model)


def test_a_traced_graph_is_recognised():
    graph = torch.fx.symbolic_trace(resnet18())
    with pytest.raises(RecalibError, match="traced graph"):
        insert_(graph, "se")


def test_repeating_needs_the_same_network():
    insertion = insert_(resnet18(), "eca")
    with pytest.raises(RecalibError, match=r"unknown site 'layer1\.0'"):
        repeat_(torchvision.models.mobilenet_v2(), insertion)
    with pytest.raises(RecalibError, match=r"layer1\.0 has 256 channels, the insertion 64"):
        repeat_(torchvision.models.resnet50(), insertion)


def test_a_factory_of_the_callers_own_cannot_be_repeated_by_name():
    insertion = insert_(resnet18(), lambda channels: SE(channels))
    with pytest.raises(RecalibError, match="unknown attention"):
        repeat_(resnet18(), insertion)


def test_insertion_does_not_touch_a_copy(images):
    model = resnet18()
    other = copy.deepcopy(model)
    insert_(model, "se")
    assert_untouched(other, snapshot(resnet18()))
