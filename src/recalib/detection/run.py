"""A detection job from its folder to its result."""

from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from recalib.errors import RecalibError

if find_spec("lightning_fabric") is None:
    raise RecalibError("training detectors needs Lightning Fabric: pip install 'recalib[train,detect]'")

from recalib.data import seed_for
from recalib.data.detection_data import DetectionDataset, open_detection
from recalib.detection.checkpoints import write_detector
from recalib.detection.detectors import build_from_recipe
from recalib.detection.domains import domain_of, values_of
from recalib.detection.feed import Feed
from recalib.detection.job import Job
from recalib.detection.loop import Training
from recalib.detection.recipes import Recipe
from recalib.detection.style import Adversarial
from recalib.detection.watch import keep_frame, open_image
from recalib.runs import RunFolder, check_trackers
from recalib.runs.job import MAY_DIFFER
from recalib.runs.launch import launched
from recalib.runs.lifecycle import Lifecycle, Outcome
from recalib.runs.progress import Progress


def run(job: Job, *, resume: bool = False) -> Outcome:
    """Train a detector as a job says.

    Args:
        job: recipe, data, folder, devices.
        resume: go on from the run's last checkpoint, where it has one.

    Raises:
        RecalibError: for anything wrong with the job, its data or its folder, before training starts.
        WorkFailed: where the loss is not finite or the disk is full; the last good checkpoint stays.
    """
    check_trackers(job.track)
    if job.watch is not None:
        open_image(job.watch)
    recipe = job.recipe
    fabric = launched(job.accelerator, job.devices, recipe.precision)
    train, test = open_parts(job)
    feed = Feed(
        train,
        batch=recipe.batch,
        augment=recipe.augment,
        seed=recipe.seed,
        limit=recipe.limit,
        repeat=recipe.repeat,
        workers=job.workers,
        device=fabric.device,
        share=(fabric.global_rank, fabric.world_size),
    )
    torch.manual_seed(seed_for(recipe.seed))
    training = Training(fabric, _network(recipe, train), recipe, feed, test)
    folder = RunFolder(job.folder)
    first = fabric.is_global_zero
    begun = fabric.broadcast(first and folder.begin(job.config(), resume=resume, may_differ=MAY_DIFFER))
    if begun:
        training.restore(folder.load())
    return _Run(job, training, folder, training.steps_done if begun else None).go()


def open_parts(job: Job) -> tuple[DetectionDataset, DetectionDataset]:
    """What a job trains and evaluates on.

    Raises:
        RecalibError: for data that is not there, or parts that tell different classes apart.
    """
    recipe = job.recipe
    masks = recipe.model.startswith("maskrcnn")
    train, test = (
        open_detection(job.data, split=split, domain=domain_of(domain), masks=masks, strict=job.strict)
        for split, domain in ((job.train_split, recipe.train_domain), (job.eval_split, recipe.eval_domain))
    )
    if train.classes != test.classes:
        strange = sorted({*train.classes} ^ {*test.classes})
        raise RecalibError(f"{job.train_split} and {job.eval_split} differ in their classes: {', '.join(strange[:5])}")
    return train, test


def _network(recipe: Recipe, train: DetectionDataset) -> nn.Module:
    detector = build_from_recipe(recipe, len(train.classes))
    if not recipe.style_adversarial:
        return detector
    return Adversarial(detector, values_of(train, recipe.style_labels), recipe.style_weight)


class _Run(Lifecycle):
    command, score = "detect train", "AP"
    trainee: Training

    def begin(self, progress: Progress) -> None:
        """Say what was left out of the data, and what the learning rate is."""
        recipe, training = self.job.recipe, self.trainee
        for name, part in ((self.job.train_split, training.feed.dataset), (self.job.eval_split, training.test)):
            for kind, count in Counter(problem.kind for problem in part.dropped).items():
                progress.say(f"{name}: {count} x {kind}, left out; recalib detect check lists them")
        if recipe.lr_batch:
            scaled = f"{recipe.lr:g} for batches of {recipe.lr_batch}, in proportion for {recipe.batch}"
            progress.say(f"learning rate {recipe.peak:g}: {scaled} (the linear rule)")

    def write_weights(self, name: str, metrics: Mapping[str, Any]) -> None:
        """The detector alone, with what it takes to load it."""
        job, training = self.job, self.trainee
        about = {"preset": job.preset, "epoch": metrics["epoch"], "AP": metrics.get("AP")}
        path, classes = self.folder.path / f"{name}.safetensors", training.feed.dataset.classes
        write_detector(training.detector, path, job.recipe.model, classes, job.recipe.ibn, **about)

    def finished_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Draw the image that is watched."""
        if self.job.watch is not None:
            detector, classes = self.trainee.detector, self.trainee.feed.dataset.classes
            keep_frame(detector, open_image(self.job.watch), classes, self.folder.path, metrics["epoch"])

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Loss and average precision."""
        told = {"AP": "AP", "AP50": "AP50", "mask_AP": "mask AP", "mask_AP50": "mask AP50"}
        scores = [f"{text} {100 * metrics[key]:.1f}" for key, text in told.items() if key in metrics]
        parts = [f"train loss {metrics['train_loss']:.4f}", *([", ".join(scores)] if scores else [])]
        return f"epoch {metrics['epoch']}: {'; '.join(parts)}; {metrics['images_per_second']:,.1f} images/s"
