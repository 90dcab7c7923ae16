"""A checkpoint trimmed on images of a data set, fine-tuned if wished, and looked at once on the test set."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recalib.classification import ClassificationJob, ClassificationRecipe, run
from recalib.classification.feeds import dataset_in, open_test
from recalib.classification.recipes import Dataset
from recalib.classification.scores import mcnemar, predict
from recalib.data import FolderTest, normalization_name, read_cifar, read_folder
from recalib.data.pictures import image_files, read_batch
from recalib.deploy.about import About
from recalib.deploy.classifier import ExportedModule, open_classifier
from recalib.errors import RecalibError
from recalib.measure.statistics import Interval, ratio_interval
from recalib.runs import RunFolder
from recalib.runs.folder import weights_of
from recalib.study.paired import Loss, loss_between
from recalib.study.times import latencies, site_times, stripped
from recalib.study.trim import Trimmed, TrimmedSite, trim
from recalib.surgery import load_checkpoint, save_checkpoint
from recalib.training.job import plain

Say = Callable[[str], None]
CALIBRATION = {"cifar10": 5000, "cifar100": 5000, "imagenet": 1000}


@dataclass(frozen=True, kw_only=True)
class TrimJob:
    """A network to trim, the data to do it on, and a limit.

    Attributes:
        source: a checkpoint of ours or another project's, a run's folder, or a model's name.
        data: CIFAR's official files; ImageNet's train (and val, for the look at the end); or a folder of images,
            which have no labels.
        to: the trimmed checkpoint; what was done on the way is kept beside it.
        loss: points of accuracy that may be lost on images set aside.
        time: percent of the plain network's time that attention may still cost, instead.
        keep: gates that stay, instead.
        runtime: whose time counts.
        batch: images in a forward pass that is timed.
        images: training images that are used; by default 5,000 of CIFAR, 1,000 of others.
        finetune: epochs of fine-tuning, on training images that nothing is judged on.
        trained: part to fine-tune: the whole network, or the gates that stay and the norms.
        model: the network of a checkpoint that does not tell it.
        attention: to be inserted where the source is a model's name.
        test: look at the test set at the end.
        rounds: timings of each network.
    """

    source: str
    data: Path
    to: Path
    loss: float | None = 0.1
    time: float | None = None
    keep: int | None = None
    runtime: str = "eager"
    batch: int = 1
    images: int | None = None
    finetune: int = 0
    trained: Literal["all", "attention+norms"] = "all"
    model: str | None = None
    attention: str | None = None
    test: bool = True
    rounds: int = 30


@dataclass(frozen=True)
class Calibration:
    """Images to decide on.

    Attributes:
        images: normalised, shape (N, 3, H, W).
        labels: shape (N,), None where nobody tells them.
        total: training images that there are; these are spread evenly over them.
    """

    images: Tensor
    labels: Tensor | None
    total: int

    @property
    def share(self) -> float:
        """Of the training images."""
        return len(self.images) / self.total


# settings that do not decide what is kept on the way
MAY_DIFFER = frozenset({"to", "data", "loss", "time", "keep", "finetune", "trained", "test"})


def trim_checkpoint(job: TrimJob, *, resume: bool = False, say: Say = print) -> dict[str, Any]:
    """Trim, fine-tune, test, and write the checkpoint.

    Args:
        job: network, data and limit.
        resume: go on with what was begun.
        say: is told every step.

    Returns:
        Everything that was found, as JSON.

    Raises:
        RecalibError: for anything wrong with the job, before work starts.
    """
    model, about = _open(job)
    calibration = calibration_images(job.data, about, job.images)
    if calibration.labels is None:
        say("no labels: what counts is agreement with the untrimmed network")
    work = job.to.with_name(f"{job.to.stem}-trim")
    folder = RunFolder(work)
    folder.begin(plain(asdict(job)), resume=resume, may_differ=MAY_DIFFER)
    journal = work / "steps.jsonl"
    if not journal.exists():
        say(f"{len(calibration.images)} training images; steps are kept in {journal}")
    example = torch.randn(job.batch, 3, *about.size, generator=torch.Generator().manual_seed(0))
    trimmed = trim(
        model, calibration.images, calibration.labels, loss=job.loss, keep=job.keep,
        time=None if job.time is None else job.time / 100, journal=journal, say=say,
        times=lambda gates: site_times(model, gates, example, job.runtime, job.rounds),
    )  # fmt: skip
    tuned: dict[int, tuple[Path, Loss]] = {}
    frozen = trimmed.frozen
    if job.finetune:
        frozen = _finetune(job, about, calibration, model, trimmed, work, tuned, resume, say)
    final = load_checkpoint(tuned[frozen][0]).eval() if frozen in tuned else trimmed.at(frozen)
    write_trimmed(final, about, trimmed, frozen, job.to)
    result = _result(job, trimmed, frozen, tuned)
    result["test"] = _tested(job, about, model, final) if job.test else None
    result["overhead"] = _overheads(job, about, model, final, trimmed)
    result["sentence"] = sentence(result)
    return result


def calibration_images(data: Path, about: About, count: int | None) -> Calibration:
    """Training images spread evenly over a data set, as the network sees them at test time.

    Args:
        data: CIFAR, ImageNet's folders, or a folder of images without labels.
        about: the network's normalisation and size.
        count: their number; None for the usual one.

    Raises:
        RecalibError: where there are none.
    """
    dataset = _dataset(data)
    if dataset is None:
        files = image_files(data)
        chosen = files[:: max(1, len(files) // (count or len(files)))][:count]
        return Calibration(read_batch(chosen, about.size, about.crop, about.normalization), None, len(files))
    count = count or CALIBRATION[dataset]
    if dataset != "imagenet":
        images = read_cifar(data, dataset, train=True)
        share = min(1.0, count / len(images.labels))
        kept = images.split(share)[1]
        return Calibration(about.normalization(kept.pixels), kept.labels, len(images.labels))
    folder = read_folder(data, train=True)
    share = min(1.0, count / len(folder.files))
    some, cpu = folder.split(share)[1], torch.device("cpu")
    batches = list(FolderTest(some, about.normalization, 50, size=about.size[0], device=cpu, workers=0))
    return Calibration(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]), len(folder.files))


def _dataset(data: Path) -> Dataset | None:
    """The data set that a folder holds; None for a folder of images."""
    if (data / "train").is_dir():
        return "imagenet"
    try:
        return dataset_in(data)
    except RecalibError:
        with suppress(RecalibError):
            if data.is_dir() and image_files(data):
                return None
        raise


def sentence(result: dict[str, Any]) -> str:
    """The result in a line."""
    frozen, sites = result["frozen"], len(result["sites"])
    test, overhead = result.get("test"), result["overhead"]
    at, of = (test["loss"], "test") if test else (result["loss"], "training")
    what = "points" if result["labelled"] or test else "points of agreement"
    return (
        f"{frozen} of {sites} sites frozen: {at['points']:.2f} {what} lost on {at['images']:,} {of} images "
        f"[{at['low']:.2f}, {at['high']:.2f}], overhead {100 * (overhead['before'][0] - 1):.1f} -> "
        f"{100 * (overhead['after'][0] - 1):.1f} % ({overhead['runtime']}, batch {overhead['batch']})"
    )


def _open(job: TrimJob) -> tuple[nn.Module, About]:
    path = Path(job.source)
    trained = path.exists() or job.source.startswith("hf-hub:")
    classifier = open_classifier(weights_of(path) if trained else job.source, model=job.model, attention=job.attention)
    if isinstance(classifier.network, ExportedModule):
        raise RecalibError(f"{path.name} is exported: trim the checkpoint that it was made of, and export that")
    return classifier.network.eval(), classifier.about


def _finetune(
    job: TrimJob, about: About, calibration: Calibration, model: nn.Module, trimmed: Trimmed, work: Path,
    tuned: dict[int, tuple[Path, Loss]], resume: bool, say: Say,
) -> int:  # fmt: skip
    """Fine-tune networks of the curve, and say which is to be taken: where a loss is the limit, the last within it.

    The more is frozen the more is lost, so that halving finds the last.
    """
    if calibration.labels is None:
        raise RecalibError("fine-tuning needs labels: --data with CIFAR or ImageNet's folders")
    if calibration.total - len(calibration.images) < 2:
        raise RecalibError(f"all {calibration.total} training images are looked at: --images leaves some to tune on")

    def loss_at(frozen: int) -> float:
        name = f"{frozen}-frozen" if job.trained == "all" else f"{frozen}-frozen-{job.trained}"
        weights = work / f"{name}.safetensors"
        write_trimmed(trimmed.at(frozen), about, trimmed, frozen, weights)
        part = "" if job.trained == "all" else f" of {job.trained} alone"
        say(f"fine-tuning{part} with {frozen} gates frozen, {job.finetune} epochs")
        outcome = run(_tuning(job, about, calibration, weights, name), resume=True)
        if outcome.stopped:
            raise KeyboardInterrupt
        network = load_checkpoint(outcome.folder / "last.safetensors").eval()
        loss = _aside(calibration, model, network)
        tuned[frozen] = outcome.folder / "last.safetensors", loss
        say(f"{loss.points:.2f} points lost after fine-tuning [{loss.low:.2f}, {loss.high:.2f}]")
        return loss.points

    if job.keep is not None or job.time is not None or job.loss is None:
        loss_at(trimmed.frozen)
        return trimmed.frozen
    good, bad = trimmed.frozen, len(trimmed.curve)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if loss_at(middle) <= job.loss else (good, middle)
    return good


def _tuning(job: TrimJob, about: About, calibration: Calibration, weights: Path, name: str) -> ClassificationJob:
    """From the trimmed network at a small rate, on the training images that were not looked at."""
    form = about.normalization
    batch = min(128, calibration.total - len(calibration.images))
    recipe = ClassificationRecipe(
        weights=weights, model=about.model, epochs=job.finetune, batch=batch, lr=0.01, nesterov=True, weight_decay=5e-4,
        schedule="linear", warmup_epochs=0.1 * job.finetune, channels_last=True, drop_last=True,
        holdout=calibration.share, trained=job.trained, image_size=about.size[0],
        normalization=normalization_name(form.mean, form.std),
    )  # fmt: skip
    return ClassificationJob(recipe=recipe, data=job.data, out=weights.parent, name=name, preset="trim", workers=0)


def _aside(calibration: Calibration, before: nn.Module, after: nn.Module) -> Loss:
    """The loss on the half of the images that did not decide which gates to freeze."""
    assert calibration.labels is not None
    images, labels = calibration.images[1::2], calibration.labels[1::2]
    return loss_between(_right(before, images, labels), _right(after, images, labels))


def _right(network: nn.Module, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
    batches = zip(images.split(250), labels.split(250), strict=True)
    right: NDArray[np.bool_] = predict(network, batches).correct()
    return right


def write_trimmed(network: nn.Module, about: About, trimmed: Trimmed, frozen: int, path: Path) -> None:
    """Write a trimmed network so that every command reads it as any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {point.site: point.stand_in for point in trimmed.curve[1 : frozen + 1]}
    save_checkpoint(
        network, path, architecture=about.model, normalization=[about.mean, about.std], classes=list(about.labels),
        trimmed=told,
    )  # fmt: skip


def _result(job: TrimJob, trimmed: Trimmed, frozen: int, tuned: dict[int, tuple[Path, Loss]]) -> dict[str, Any]:
    done = {point.site: point.stand_in for point in trimmed.curve[1 : frozen + 1]}
    loss = tuned[frozen][1] if frozen in tuned else trimmed.curve[frozen].loss
    whole = trimmed.curve[0].chosen_on.top1
    return {
        "checkpoint": job.source, "to": str(job.to), "frozen": frozen, "labelled": trimmed.labelled,
        "sites": [_site_row(site, done.get(f"{site.name}.attention")) for site in trimmed.sites],
        "curve": [
            {**asdict(point), "finetuned": asdict(tuned[point.frozen][1]) if point.frozen in tuned else None}
            for point in trimmed.curve
        ],
        "loss": asdict(loss), "top1_before": whole,
        "top1_after": None if whole is None else whole - loss.points,
        "on": "training images, which the network may know by heart: more may be lost on others",
        "finetuned_epochs": job.finetune, "finetuned_part": job.trained, "notes": list(trimmed.notes),
    }  # fmt: skip


def _site_row(site: TrimmedSite, stand_in: str | None) -> dict[str, Any]:
    ms = None if site.ms is None else site.ms[0]
    return {**asdict(replace(site, frozen=None)), "frozen": stand_in is not None, "stand_in": stand_in, "ms": ms,
            "ms_interval": site.ms and list(site.ms[1:])}  # fmt: skip


def _tested(job: TrimJob, about: About, before: nn.Module, after: nn.Module) -> dict[str, Any] | None:
    """The look at the test set, once, with both networks on the same images."""
    dataset = _dataset(job.data)
    if dataset is None or (dataset == "imagenet" and not (job.data / "val").is_dir()):
        return None
    form = normalization_name(about.mean, about.std)
    recipe = ClassificationRecipe(dataset=dataset, normalization=form, image_size=about.size[0])
    batches, _ = open_test(job.data, recipe, torch.device("cpu"))
    rights = [predict(network, batches).correct() for network in (before, after)]
    loss = loss_between(*rights)
    top1_before, top1_after = (100 * float(right.mean()) for right in rights)
    return {"top1_before": top1_before, "top1_after": top1_after, "loss": asdict(loss), "mcnemar": mcnemar(*rights)}


def _overheads(job: TrimJob, about: About, before: nn.Module, after: nn.Module, trimmed: Trimmed) -> dict[str, Any]:
    """Time of attention before and after, relative to the network without any: deployed, timed in turn."""
    gates = [f"{site.name}.attention" for site in trimmed.sites]
    plain = stripped(before, gates)
    example = torch.randn(job.batch, 3, *about.size, generator=torch.Generator().manual_seed(0))
    taken = latencies([before, after, plain], example, job.runtime, job.rounds)
    ratios: list[Interval] = [ratio_interval(taken[:, i].tolist(), taken[:, 2].tolist()) for i in (0, 1)]
    return {"runtime": job.runtime, "batch": job.batch, "size": list(about.size), "threads": torch.get_num_threads(),
            "before": list(ratios[0]), "after": list(ratios[1]), "samples_ms": taken.T.round(4).tolist()}  # fmt: skip
