"""The loop against plain PyTorch, step by step."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F

from recalib.classification import ClassificationRecipe
from recalib.classification.feeds import Feeds
from recalib.classification.mixing import mixer
from recalib.classification.task import Classification
from recalib.models import create_model
from recalib.surgery import insert_
from recalib.training.schedule import learning_rate
from recalib.training.trainer import Trainer, freeze_norms, make_optimizer

RECIPE = ClassificationRecipe(model="cifar_resnet8", epochs=2, batch=8, lr=0.05, weight_decay=1e-2, milestones=(1,))


class Listed:
    """Three batches, the same in every epoch."""

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.batches = [(torch.randn(8, 3, 16, 16, generator=draw), torch.arange(8)) for _ in range(3)]

    def __len__(self):
        return 3

    def epoch(self, epoch, start=0, attempt=0):
        yield from self.batches[start:]

    def __iter__(self):
        yield from self.batches


def network(attention=None):
    torch.manual_seed(0)
    made = create_model("cifar_resnet8", num_classes=10)
    if attention:
        insert_(made, attention)
    return made


def trainer(fabric, recipe, made):
    feed = Listed()
    task = Classification(recipe, Feeds(feed, feed, tuple("abcdefghij")))
    task.network = made
    return Trainer(fabric, task, recipe)


def trained(recipe, attention=None, epochs=2):
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
    training = trainer(fabric, recipe, network(attention))
    for _ in range(epochs):
        list(training.run_epoch())
        training.finish_epoch()
    return training


def by_hand(recipe, attention=None, epochs=2, ema=None):
    """The same in a few lines of PyTorch."""
    plain = network(attention)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    more = {"momentum": recipe.momentum, "nesterov": recipe.nesterov} if recipe.optimizer == "sgd" else {}
    optimizer = kind(plain.parameters(), recipe.lr, weight_decay=recipe.weight_decay, **more)
    average = None
    for epoch in range(epochs):
        plain.train()
        for step, (x, y) in enumerate(Listed().batches):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, 3 * epoch + step, 3)
            optimizer.zero_grad()
            F.cross_entropy(plain(x), y, label_smoothing=recipe.label_smoothing).backward()
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), recipe.clip)
            optimizer.step()
            now = torch.cat([p.detach().flatten() for p in plain.parameters()])
            if recipe.ema:
                average = now.clone() if average is None else recipe.ema * average + (1 - recipe.ema) * now
    return plain if average is None else average


def assert_same_weights(a, b, **tolerance):
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": True, "label_smoothing": 0.1},
        {"optimizer": "adam", "lr": 0.003},
        {"optimizer": "adamw", "lr": 0.003, "schedule": "cosine", "warmup_epochs": 0.5},
        {"clip": 0.1},
    ],
)
def test_training_is_what_plain_pytorch_does(changes):
    recipe = replace(RECIPE, **changes)
    assert_same_weights(trained(recipe).network, by_hand(recipe))


def test_channels_last_changes_the_layout_and_not_the_result():
    training = trained(replace(RECIPE, channels_last=True), epochs=1)
    assert training.network.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert_same_weights(training.network, by_hand(RECIPE, epochs=1), rtol=1e-4, atol=1e-5)


def test_the_average_is_exponential():
    recipe = replace(RECIPE, ema=0.8)
    ours = torch.cat([p.flatten() for p in trained(recipe).evaluated.parameters()])
    torch.testing.assert_close(ours, by_hand(recipe))


def test_accumulation_adds_up_to_the_whole_batch_where_norms_are_frozen():
    whole, parts = (trained(replace(RECIPE, freeze_norms=True, accumulate=n)) for n in (1, 4))
    assert_same_weights(whole.network, parts.network, rtol=1e-5, atol=1e-6)


def test_frozen_norms_stay_and_those_of_attention_learn():
    before, training = network("srm").state_dict(), trained(replace(RECIPE, freeze_norms=True), "srm")
    after = training.network.state_dict()
    for name in ("bn1.weight", "bn1.running_mean", "layer2.0.bn2.bias"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["layer2.0.attention.bn.running_mean"], after["layer2.0.attention.bn.running_mean"])
    assert not torch.equal(before["layer2.0.attention.bn.weight"], after["layer2.0.attention.bn.weight"])


def test_what_modules_mark_is_not_decayed():
    marked = network("srm")
    decays = {id(p): g["weight_decay"] for g in make_optimizer(marked, RECIPE).param_groups for p in g["params"]}
    for name, p in marked.named_parameters():
        assert decays[id(p)] == (0 if "attention" in name else 1e-2)


def test_norms_and_biases_are_spared_by_option():
    plain = network()
    groups = make_optimizer(plain, replace(RECIPE, decay_norms_and_biases=False)).param_groups
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decays[id(plain.conv1.weight)] == 1e-2
    assert decays[id(plain.bn1.weight)] == decays[id(plain.fc.bias)] == 0


def test_bfloat16_trains_close_to_float32():
    half, full = (trained(replace(RECIPE, precision=p), epochs=1) for p in ("bf16-mixed", "32-true"))
    assert half.network.conv1.weight.dtype == torch.float32
    a, b = (torch.cat([p.detach().flatten() for p in one.network.parameters()]) for one in (half, full))
    assert 0 < (a - b).norm() < 0.03 * b.norm()


def scaled():
    """A training in fp16, whose scaler a CPU has too."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=2)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
    return trainer(fabric, RECIPE, network()), scaler


def test_the_scaler_of_fp16_is_in_the_checkpoint_and_goes_on_where_it_was():
    training, scaler = scaled()
    before = network().conv1.weight
    list(training.run_epoch())
    assert not torch.equal(training.network.conv1.weight, before)
    assert scaler.get_scale() == 4.0  # doubled after two steps, and one step on the way to the next
    resumed, fresh = scaled()
    resumed.restore(training.state())
    assert fresh.state_dict() == scaler.state_dict()
    assert fresh.state_dict()["_growth_tracker"] == 1


@pytest.mark.slow(reason="half a minute for the compiler")
def test_compiling_changes_no_result():
    assert_same_weights(trained(replace(RECIPE, compile=True), epochs=1).network, by_hand(RECIPE, epochs=1))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_targets_are_shares_of_the_two_images_classes(mixup, cutmix):
    torch.manual_seed(0)
    mixed, targets = mixer(mixup, cutmix, 10)(torch.randn(8, 3, 16, 16), torch.arange(8))
    assert targets.shape == (8, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert ((targets > 0).sum(1) <= 2).all()
    assert mixed.shape == (8, 3, 16, 16)


def test_cutmix_takes_as_much_of_the_class_as_of_the_image():
    torch.manual_seed(1)
    ones = torch.arange(8.0)[:, None, None, None].expand(8, 3, 16, 16)
    mixed, targets = mixer(0, 1.0, 8)(ones, torch.arange(8))
    own = (mixed == ones).double().mean((1, 2, 3))
    torch.testing.assert_close(targets[torch.arange(8), torch.arange(8)].double(), own)


def test_freezing_reaches_no_attention_module_of_whatever_class():
    class Own(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.norm = nn.BatchNorm2d(channels)

        def forward(self, x):
            return x * self.norm(x).sigmoid()

    for attention in (Own, "timm:cbam"):
        made = network(None)
        insert_(made, attention)
        freeze_norms(made.train())
        own = [m for m in made.layer1[0].attention.modules() if isinstance(m, nn.BatchNorm2d)]
        assert own
        assert all(m.training and m.weight.requires_grad for m in own)
        assert not made.bn1.training


def test_freezing_reaches_no_attention_module():
    made = network("srm")
    made.train()
    freeze_norms(made)
    assert not made.bn1.training
    assert made.layer1[0].attention.bn.training
