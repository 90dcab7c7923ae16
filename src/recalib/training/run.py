"""A classification job from its folder to its result."""

from collections.abc import Mapping
from typing import Any

import torch

from recalib.data import seed_for
from recalib.runs import RunFolder, check_trackers
from recalib.runs.job import MAY_DIFFER
from recalib.runs.launch import launched
from recalib.runs.lifecycle import Lifecycle, Outcome
from recalib.runs.progress import Progress
from recalib.training.feeds import open_feeds, resolved
from recalib.training.job import Job
from recalib.training.loop import Training
from recalib.training.network import build_network, write_network


def run(job: Job, *, resume: bool = False) -> Outcome:
    """Train as a job says.

    Args:
        job: recipe, data, folder, devices.
        resume: go on from the run's last checkpoint, where it has one.

    Raises:
        RecalibError: for anything wrong with the job, its data or its folder, before training starts.
        WorkFailed: where the loss is not finite or the disk is full; the last good checkpoint stays.
    """
    check_trackers(job.track)
    job = resolved(job)
    fabric = launched(job.accelerator, job.devices, job.recipe.precision)
    feeds = open_feeds(job, fabric.device, (fabric.global_rank, fabric.world_size))
    torch.manual_seed(seed_for(job.recipe.seed))
    training = Training(fabric, build_network(job.recipe, len(feeds.classes)), job.recipe, feeds)
    folder = RunFolder(job.folder)
    first = fabric.is_global_zero
    begun = fabric.broadcast(first and folder.begin(job.config(), resume=resume, may_differ=MAY_DIFFER))
    if begun:
        training.restore(folder.load())
    return _Run(job, training, folder, training.steps_done if begun else None).go()


class _Run(Lifecycle):
    command, score = "train", "top1"
    trainee: Training

    def begin(self, progress: Progress) -> None:
        """Evaluate what was loaded."""
        if self.job.recipe.weights is not None:
            metrics = {f"initialized_{name}": value for name, value in self.trainee.evaluate().items()}
            self.log(metrics)
            progress.say(f"initialized: top-1 {metrics['initialized_top1']:.2f} %")

    def write_weights(self, name: str, metrics: Mapping[str, Any]) -> None:
        job, training = self.job, self.trainee
        about = {"dataset": job.recipe.dataset, "preset": job.preset, "classes": list(training.feeds.classes)}
        about |= {key: metrics[key] for key in ("epoch", "top1", "top5")}
        write_network(training.evaluated, job.recipe, self.folder.path / f"{name}.safetensors", **about)

    def line(self, metrics: Mapping[str, Any]) -> str:
        return (
            f"epoch {metrics['epoch']}: train loss {metrics['train_loss']:.4f}, top-1 {metrics['train_top1']:.2f} %; "
            f"test loss {metrics['loss']:.4f}, top-1 {metrics['top1']:.2f} %; "
            f"{metrics['images_per_second']:,.0f} images/s"
        )
