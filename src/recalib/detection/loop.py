"""The training loop of detectors.

Every source of randomness is a function of (seed, epoch, step), and a checkpoint holds everything else: a run that is
killed at any moment and resumed ends in the same bits, on a CPU, as one that was not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from recalib.attention import param_groups
from recalib.data import seed_for
from recalib.data.detection_data import DetectionDataset
from recalib.detection.average_precision import IouType
from recalib.detection.evaluation import detect, joined, summary
from recalib.detection.feed import Batch, Feed
from recalib.detection.recipes import Recipe
from recalib.detection.style import Adversarial
from recalib.runs.lifecycle import NotFiniteError
from recalib.runs.synchronized import synchronized


class _Sealed:
    """A batch that Fabric does not look into: mixed precision would round boxes to whole pixels and worse."""

    def __init__(self, batch: Batch) -> None:
        self.images, self.targets = batch


class _Losses(nn.Module):
    """A network called with a sealed batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: _Sealed) -> Any:
        return self.network(batch.images, batch.targets)


class Training:
    """A detector, an optimizer, and how far they have come.

    Args:
        fabric: device, precision and processes; launched.
        network: trained in place; a detector, or one with its adversary.
        recipe: how.
        feed: training batches.
        test: what is evaluated on.
    """

    def __init__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, feed: Feed, test: DetectionDataset) -> None:
        self.fabric, self.recipe, self.feed, self.test = fabric, recipe, feed, test
        if recipe.sync_batchnorm and fabric.world_size > 1:
            network = synchronized(network, fabric.device)
        self.network = fabric.to_device(network)
        groups = param_groups(network, recipe.weight_decay)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum)
            if recipe.optimizer == "sgd"
            else torch.optim.AdamW(groups, recipe.lr)
        )
        self.model, self.stepper = fabric.setup(_Losses(network), self.optimizer)
        self.epoch = self.step = self.attempt = 0
        self.totals: dict[str, Tensor] = {}  # each loss summed over the steps of this epoch, in this process

    @property
    def detector(self) -> nn.Module:
        """The detector alone."""
        return self.network.detector if isinstance(self.network, Adversarial) else self.network

    @property
    def iou_types(self) -> tuple[IouType, ...]:
        """What is evaluated: boxes, and masks where the detector makes them."""
        return ("bbox", "segm") if self.recipe.model.startswith("maskrcnn") else ("bbox",)

    @property
    def steps_in_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.feed)

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.epoch * self.steps_in_epoch + self.step

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return [*self.feed.dataset.unreadable, *self.test.unreadable]

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; `restore` takes it back."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "totals": self._shared_totals(),
            **{name: getattr(self, name) for name in ("epoch", "step", "attempt")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.totals = {name: total.to(self.fabric.device) for name, total in state["totals"].items()}
        for name in ("epoch", "step", "attempt"):
            setattr(self, name, state[name])

    def run_epoch(self) -> Iterator[int]:
        """Train to the end of the epoch; yields the images of every step, after which `state` may be taken."""
        self.network.train()
        for batch in self.feed.epoch(self.epoch, self.step, self.attempt):
            torch.manual_seed(seed_for(self.recipe.seed, self.attempt, self.epoch, self.step, self.fabric.global_rank))
            self._step(batch)
            self.step += 1
            yield len(batch[0]) * self.fabric.world_size

    def finish_epoch(self) -> dict[str, Any]:
        """Evaluate where it is time to, begin the next epoch, and return the metrics of this one."""
        self.check()
        metrics: dict[str, Any] = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        metrics |= {f"train_{name}": float(total) / self.step for name, total in self._shared_totals().items()}
        last = self.epoch + 1 == self.recipe.epochs
        if last or (self.epoch + 1) % self.recipe.eval_every == 0:
            metrics |= self.evaluate()
        self.epoch, self.step, self.totals = self.epoch + 1, 0, {}
        return metrics

    def evaluate(self) -> dict[str, float]:
        """COCO's average precisions on the test set: each process detects in its share of it, the first one scores."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        self._take_statistics()
        own = detect(self.detector, self.test, iou_types=self.iou_types, share=(rank, world))
        parts = [own] * world
        if world > 1:
            torch.distributed.all_gather_object(parts, own)
        figures = _numbers(summary(*joined(parts, self.test))) if rank == 0 else {}
        metrics: dict[str, float] = self.fabric.broadcast(figures)
        return metrics

    def check(self) -> None:
        """Look at the losses of the steps so far; waits for the device.

        Raises:
            NotFiniteError: in every process, where a loss of one is not finite.
        """
        finite = all(bool(torch.isfinite(total)) for total in self.totals.values())
        if self.agree(not finite):
            raise NotFiniteError

    def agree(self, flag: bool) -> bool:
        """Whether any process raises the flag; all must ask at the same step."""
        if self.fabric.world_size == 1:
            return flag
        raised: Any = self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum")
        return bool(raised)

    def _take_statistics(self) -> None:
        """Give every process the first one's norms: each has added its own batch to them in the last step."""
        for buffer in self.network.buffers() if self.fabric.world_size > 1 else ():
            torch.distributed.broadcast(buffer, 0)

    def _step(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps_done, self.steps_in_epoch)
        losses: dict[str, Tensor] = self.model(_Sealed(batch))
        loss = torch.stack(list(losses.values())).sum()
        self.fabric.backward(loss)
        if self.recipe.clip:
            self.fabric.clip_gradients(
                self.model, self.stepper, max_norm=self.recipe.clip, error_if_nonfinite=False
            )  # a non-finite norm shows in the loss, or is what the scaler waits for
        self.stepper.step()
        self.stepper.zero_grad()
        for name, value in {"loss": loss, **losses}.items():
            self.totals[name] = self.totals.get(name, 0.0) + value.detach().float()

    def _shared_totals(self) -> dict[str, Tensor]:
        """Totals, averaged over all processes."""
        if self.fabric.world_size == 1:
            return {name: total.clone() for name, total in self.totals.items()}
        shared: Any = {name: self.fabric.all_reduce(total, reduce_op="mean") for name, total in self.totals.items()}
        return dict(shared)


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Figures for a row of metrics: those of boxes under their own names, those of masks as ``mask_AP`` and so on."""
    boxes = {name: value for name, value in found.items() if isinstance(value, float)}
    masks = {f"mask_{name}": value for name, value in found.get("segm", {}).items() if isinstance(value, float)}
    return boxes | masks
