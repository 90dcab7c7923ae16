"""The trainer: a task's network, an optimizer, and how far they have come.

Every source of randomness is a function of (seed, epoch, step), and a checkpoint holds everything else: a run that is
killed at any moment and resumed ends in the same bits, on a CPU, as one that was not.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recalib.attention import param_groups
from recalib.attention.base import Attention, PlainAttention
from recalib.attention.param_groups import NORMS
from recalib.data import seed_for
from recalib.errors import RecalibError
from recalib.surgery import attention_of
from recalib.training.processes import synchronized
from recalib.training.recipe import Recipe
from recalib.training.schedule import learning_rate
from recalib.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

COUNTERS = ("epoch", "step", "attempt")


class NotFiniteError(Exception):
    """The loss became NaN or infinite."""


class Trainer:
    """Trains a task's network, step by step.

    Args:
        fabric: device, precision and processes; launched.
        task: data, network and losses; the network is trained in place.
        recipe: how.
    """

    def __init__(self, fabric: "Fabric", task: Task, recipe: Recipe) -> None:
        self.fabric, self.task, self.recipe = fabric, task, recipe
        network = task.network
        if recipe.sync_batchnorm and fabric.world_size > 1:
            network = synchronized(network, fabric.device)
        if recipe.trained != "all":  # before DDP and the optimizer look for what is trained
            keep_still(network, norms=recipe.trained == "attention")
        if recipe.freeze_norms:
            freeze_norms(network)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = fabric.to_device(network).to(memory_format=layout)
        averaging = get_ema_multi_avg_fn(recipe.ema)
        self.ema = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True) if recipe.ema else None
        self.optimizer = make_optimizer(network, recipe)
        self.model, self.stepper = fabric.setup(task.called(network, compiled=recipe.compiled), self.optimizer)
        self.epoch = self.step = self.attempt = 0
        self.totals: dict[str, Tensor] = {}  # figures of this epoch, summed over this process's images
        self.marked: dict[str, Tensor] = {}  # the same at the last `recent_loss`

    @property
    def evaluated(self) -> nn.Module:
        """The network that counts: the averaged one where there is one."""
        return self.network if self.ema is None else self.ema.module

    @property
    def steps_in_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.task.train)

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.epoch * self.steps_in_epoch + self.step

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; `restore` takes it back. All processes call it together."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "sums": self._everyones(self.totals),
            "marked": self._everyones(self.marked),
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave, in this version or an older one."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        for name in COUNTERS:
            setattr(self, name, state[name])
        sums = state.get("sums")
        if sums is None:
            sums = self.task.restored_totals(state["totals"], self.recipe.batch, self.step)
        first = self.fabric.is_global_zero  # which has the sum
        self.totals, self.marked = (
            {name: total.to(self.fabric.device) for name, total in those.items()} if first else {}
            for those in (sums, state.get("marked", {}))
        )

    def run_epoch(self) -> Iterator[int]:
        """Train to the end of the epoch; yields the images of every step, after which `state` may be taken."""
        self.network.train()
        if self.recipe.freeze_norms:
            freeze_norms(self.network)
        for batch in self.task.train.epoch(self.epoch, self.step, self.attempt):
            self._seed()
            self._step(batch)
            self.step += 1
            yield self.task.size(batch) * self.fabric.world_size

    def finish_epoch(self) -> dict[str, Any]:
        """Evaluate where it is time to, begin the next epoch, and return the metrics of this one.

        Raises:
            NotFiniteError: where a figure is not.
        """
        sums = {name: float(total) for name, total in self._everyones(self.totals).items()}
        images = sums.pop("images")
        metrics: dict[str, Any] = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        metrics |= {f"train_{name}": value / images for name, value in sums.items()}
        if (self.epoch + 1) % self.recipe.eval_every == 0 or self.epoch + 1 == self.recipe.epochs:
            metrics |= self.evaluate()
        metrics |= _memory(self.fabric.device)
        if not all(math.isfinite(value) for value in metrics.values()):
            raise NotFiniteError
        self.epoch, self.step, self.totals, self.marked = self.epoch + 1, 0, {}, {}
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Figures of the network that counts, on the test images and on those set aside."""
        network = self.evaluated
        for buffer in network.buffers() if self.fabric.world_size > 1 else ():
            torch.distributed.broadcast(buffer, 0)  # running statistics differ where they are not synchronised
        metrics = self.task.evaluate(network, "test", self.fabric)
        if self.task.aside:
            aside = self.task.evaluate(network, "aside", self.fabric)
            metrics |= {f"holdout_{name}": value for name, value in aside.items()}
        return metrics

    def recent_loss(self) -> float:
        """Mean loss of the steps of this epoch since this was last asked. All processes ask together."""
        now, before = self._everyones(self.totals), self._everyones(self.marked)
        self.marked = {name: self.totals[name].clone() for name in ("loss", "images")}
        loss, images = (float(now[name]) - float(before.get(name, 0.0)) for name in ("loss", "images"))
        return loss / images

    def loss(self) -> float:
        """Mean loss of this process in this epoch; waits for the device."""
        return float(self.totals["loss"] / self.totals["images"])

    def check(self) -> None:
        """Look at the losses of the steps so far; waits for the device.

        Raises:
            NotFiniteError: in every process, where a loss of one is not finite.
        """
        if self.agree(not all(bool(torch.isfinite(total)) for total in self.totals.values())):
            raise NotFiniteError

    def agree(self, flag: bool) -> bool:
        """True where any process raises the flag; all must ask at the same step."""
        if self.fabric.world_size == 1:
            return flag
        return bool(summed(torch.tensor(float(flag), device=self.fabric.device), self.fabric))

    def _seed(self) -> None:
        counters = (self.recipe.seed, self.attempt, self.epoch, self.step, self.fabric.global_rank)
        torch.manual_seed(seed_for(*counters))

    def _step(self, batch: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.steps_done, self.steps_in_epoch)
        batch = self.task.prepare(batch)
        parts, size = self.task.parts(batch, self.recipe.accumulate), self.task.size(batch)
        for i, part in enumerate(parts):
            with self.fabric.no_backward_sync(self.model, enabled=i + 1 < len(parts)):
                loss, figures = self.task.losses(self.model, part)
                self.fabric.backward(loss * (self.task.size(part) / size))
            self._count(loss, figures, self.task.size(part))
        if self.recipe.clip:
            self.fabric.clip_gradients(
                self.model, self.stepper, max_norm=self.recipe.clip, error_if_nonfinite=False
            )  # a non-finite norm shows in the loss, or is what the scaler waits for
        self.stepper.step()
        self.stepper.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def _count(self, loss: Tensor, figures: dict[str, Tensor], size: int) -> None:
        wide = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        images = torch.tensor(float(size), dtype=wide, device=loss.device)
        for name, value in {"images": images, "loss": loss.detach() * size, **figures}.items():
            self.totals[name] = self.totals.get(name, 0) + value.detach().to(wide)

    def _everyones(self, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all processes."""
        if self.fabric.world_size == 1:
            return {name: total.clone() for name, total in totals.items()}
        names: list[str] = self.fabric.broadcast(list(totals))
        nothing = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        return {name: summed(totals.get(name, nothing), self.fabric) for name in names}


def summed(values: Tensor, fabric: "Fabric") -> Tensor:
    """Sum of a tensor over all processes; the tensor itself is left alone."""
    total: Tensor = fabric.all_reduce(values.clone(), reduce_op="sum")  # type: ignore[assignment]
    return total


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; what modules mark is not decayed, nor, by option, norms and biases."""
    groups = param_groups(network, recipe.weight_decay, decay_norms_and_biases=recipe.decay_norms_and_biases)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](groups, recipe.lr)


def freeze_norms(network: nn.Module) -> None:
    """Keep a network's norms as they are; norms inside attention modules, whoever wrote them, go on learning."""
    spared = _within_attention(network)
    for module in network.modules():
        if isinstance(module, NORMS) and id(module) not in spared:
            module.eval().requires_grad_(False)


def keep_still(network: nn.Module, *, norms: bool) -> None:
    """Let a network's attention learn alone, whoever wrote it, or with the norms.

    Args:
        network: changed in place.
        norms: keep the norms' parameters still, too.

    Raises:
        RecalibError: where nothing would learn.
    """
    spared = _within_attention(network)
    learning = [m for m in network.modules() if id(m) in spared or (isinstance(m, NORMS) and not norms)]
    network.requires_grad_(False)
    for module in learning:
        module.requires_grad_(True)
    if not any(p.requires_grad for p in network.parameters()):
        raise RecalibError(f"trained attention{'' if norms else '+norms'}: this network has nothing of it to train")


def _within_attention(network: nn.Module) -> set[int]:
    """Attention modules, whoever wrote them, and all modules inside of them, by `id`."""
    ours = [module for module in network.modules() if isinstance(module, Attention | PlainAttention)]
    return {id(m) for attention in (*ours, *attention_of(network)) for m in attention.modules()}


def _memory(device: torch.device) -> dict[str, float]:
    """Memory of a GPU: the most this process has taken, and what is left for others."""
    if device.type != "cuda":
        return {}
    free, _ = torch.cuda.mem_get_info(device)
    return {"memory_gib": torch.cuda.max_memory_reserved(device) / 2**30, "free_gib": free / 2**30}
