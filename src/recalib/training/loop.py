"""The training loop.

Every source of randomness is a function of (seed, epoch, step), and a checkpoint holds everything else: a run that is
killed at any moment and resumed ends in the same bits, on a CPU, as one that was not.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recalib.attention import param_groups
from recalib.data import seed_for
from recalib.runs.lifecycle import NotFiniteError
from recalib.runs.synchronized import synchronized
from recalib.training.feeds import Feeds
from recalib.training.mixing import mixer
from recalib.training.network import freeze_norms
from recalib.training.recipes import Recipe
from recalib.training.schedule import learning_rate
from recalib.training.scores import accuracy, summed


class Training:
    """A network, an optimizer, and how far they have come.

    Args:
        fabric: device, precision and processes; launched.
        network: trained in place.
        recipe: how.
        feeds: the data.
    """

    def __init__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, feeds: Feeds) -> None:
        self.fabric, self.recipe, self.feeds = fabric, recipe, feeds
        if recipe.sync_batchnorm and fabric.world_size > 1:
            network = synchronized(network, fabric.device)
        if recipe.freeze_norms:
            freeze_norms(network)  # before DDP and the optimizer look for what is trained
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = fabric.to_device(network).to(memory_format=layout)
        self.layout = layout
        averaging = get_ema_multi_avg_fn(recipe.ema)
        self.ema = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True) if recipe.ema else None
        self.optimizer = make_optimizer(network, recipe)
        wrapped: Any = torch.compile(network) if recipe.compile else network
        self.model, self.stepper = fabric.setup(wrapped, self.optimizer)
        self.mix = mixer(recipe.mixup, recipe.cutmix, len(feeds.classes))
        self.epoch = self.step = self.attempt = 0
        wide = torch.float32 if fabric.device.type == "mps" else torch.float64
        self.totals = torch.zeros(3, dtype=wide, device=fabric.device)  # loss, correct, images of this epoch

    @property
    def evaluated(self) -> nn.Module:
        """The network that counts: the averaged one where there is one."""
        return self.network if self.ema is None else self.ema.module

    @property
    def steps_in_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.feeds.train)

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return self.feeds.unreadable

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.epoch * self.steps_in_epoch + self.step

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; `restore` takes it back."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "totals": self._sum_totals(),
            **{name: getattr(self, name) for name in ("epoch", "step", "attempt")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.totals.copy_(state["totals"])
        if not self.fabric.is_global_zero:
            self.totals.zero_()  # rank 0 has the sum
        for name in ("epoch", "step", "attempt"):
            setattr(self, name, state[name])

    def run_epoch(self) -> Iterator[int]:
        """Train to the end of the epoch; yields the images of every step, after which `state` may be taken."""
        self.network.train()
        if self.recipe.freeze_norms:
            freeze_norms(self.network)
        for images, labels in self.feeds.train.epoch(self.epoch, self.step, self.attempt):
            self._seed()
            self._step(images.to(memory_format=self.layout), labels)
            self.step += 1
            yield len(labels) * self.fabric.world_size

    def finish_epoch(self) -> dict[str, float]:
        """Evaluate, begin the next epoch, and return the metrics of this one.

        Raises:
            NotFiniteError: where the loss on the test set is not.
        """
        loss, correct, images = self._sum_totals().tolist()
        rate = self.optimizer.param_groups[0]["lr"]
        metrics = {"epoch": self.epoch, "lr": rate, "train_loss": loss / images, "train_top1": 100 * correct / images}
        metrics |= self.evaluate() | _memory(self.fabric.device)
        if self.feeds.aside is not None:
            aside = accuracy(self.evaluated, self.feeds.aside, self.fabric)
            metrics |= {f"holdout_{name}": value for name, value in aside.items()}
        if not math.isfinite(metrics["loss"]):
            raise NotFiniteError
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Loss, top-1 and top-5 on the test set, of the network that counts."""
        return accuracy(self.evaluated, self.feeds.test, self.fabric)

    def check(self) -> None:
        """Look at the loss of the steps so far; waits for the device.

        Raises:
            NotFiniteError: in every process, where the loss of one is not finite.
        """
        if self.agree(not bool(torch.isfinite(self.totals[0]))):
            raise NotFiniteError

    def agree(self, flag: bool) -> bool:
        """Whether any process raises the flag; all must ask at the same step."""
        if self.fabric.world_size == 1:
            return flag
        return bool(summed(torch.tensor(float(flag), device=self.fabric.device), self.fabric))

    def _seed(self) -> None:
        counters = (self.recipe.seed, self.attempt, self.epoch, self.step, self.fabric.global_rank)
        torch.manual_seed(seed_for(*counters))

    def _step(self, images: Tensor, labels: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.steps_done, len(self.feeds.train))
        mixed, targets = self.mix(images, labels)
        parts = list(zip(*(t.chunk(self.recipe.accumulate) for t in (mixed, targets, labels)), strict=True))
        for i, (x, target, label) in enumerate(parts):
            with self.fabric.no_backward_sync(self.model, enabled=i + 1 < len(parts)):
                logits = self.model(x)
                loss = F.cross_entropy(logits, target, label_smoothing=self.recipe.label_smoothing)
                self.fabric.backward(loss * (len(x) / len(images)))
            self._count(loss, logits, label)
        if self.recipe.clip:
            self.fabric.clip_gradients(
                self.model, self.stepper, max_norm=self.recipe.clip, error_if_nonfinite=False
            )  # a non-finite norm shows in the loss, or is what the scaler waits for
        self.stepper.step()
        self.stepper.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        correct = (logits.detach().argmax(1) == labels).sum()
        size = torch.full((), len(labels), device=labels.device)
        self.totals += torch.stack([loss.detach() * size, correct, size]).to(self.totals.dtype)

    def _sum_totals(self) -> Tensor:
        return summed(self.totals, self.fabric)


def _memory(device: torch.device) -> dict[str, float]:
    """What this process has taken of a GPU at most, and what is left for others."""
    if device.type != "cuda":
        return {}
    free, _ = torch.cuda.mem_get_info(device)
    return {"memory_gib": torch.cuda.max_memory_reserved(device) / 2**30, "free_gib": free / 2**30}


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; what modules mark is not decayed, nor, by option, norms and biases."""
    groups = param_groups(network, recipe.weight_decay, decay_norms_and_biases=recipe.decay_norms_and_biases)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](groups, recipe.lr)
