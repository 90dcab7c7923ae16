"""``recalib study``: does attention help, by more than chance and more than a larger network would."""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from recalib.attention import PAPER
from recalib.cli.arguments import parse
from recalib.cli.engine import TRAINING, TrainingEngine
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.runs.environment import without_place


@dataclass(frozen=True)
class Arguments:
    """Train a network, the same with each module, and the next larger one, by one recipe and with the same seeds.

    Seeds are in the outer loop: stopped at any moment, what is done is a fair comparison of fewer seeds, and the same
    command goes on. Gains come with intervals that hold for all modules at once.

    Examples:
      recalib study cifar-quick --data DIR --model resnet20 --attention eca se --seeds 3

    Where attention should go:
      recalib study cifar-quick --data DIR --attention eca --placement --out study

    Into trained networks:
      recalib study finetune --weights FILE --data DIR --attention eca se --out study
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """of recalib train or recalib detect train; finetune is short for finetune-short"""
    data: Path
    """folder of the data set"""
    attention: tuple[str, ...] = PAPER
    """modules that are compared"""
    model: str | None = None
    """the network; by default the recipe's"""
    deeper: str | None = None
    """the larger network; by default the next deeper one where there is one, and none for none"""
    seeds: int = 3
    """how many, counted from --seed"""
    seed: int = 0
    """the first"""
    out: Path = Path("study")
    """folder of the runs, of study.json and of the page, study.html"""
    minutes: float | None = None
    """stop training after so many; the same command goes on; 0 only reports what there is"""
    jobs: int | None = None
    """runs side by side; by default one, and on a GPU as many as its memory holds"""
    placement: bool = False
    """compare where the modules go: everywhere, the last stage, the last two, every second block"""
    weights: Path | None = None
    """checkpoint to start from; modules then start as the identity"""
    epochs: int | None = None
    """instead of the recipe's"""
    limit: int | None = None
    """the first so many training and test images only, to try things out"""
    batch: int | None = None
    """images a training step, instead of the recipe's"""
    lr: float | None = None
    """instead of the recipe's"""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] | None = None
    """of training, instead of the recipe's"""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """by default the best this machine has"""
    devices: int = 1
    """processes of each run, one a device"""
    workers: int = 4
    """processes that read images, for data that does not stay on the device"""
    runtime: str = "eager"
    """whose time counts: eager, onnxruntime, openvino, ..."""
    rounds: int = 30
    """how often each network is timed, in turn; 0 for no times"""
    resume: bool = False
    """as for other commands; a study goes on with what is there in any case"""
    json: Path | None = None
    """file for the results, besides study.json in the folder"""
    where: TRAINING = field(default_factory=TrainingEngine)


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib study")
    from recalib.report import require_drawing
    from recalib.report.study import show_study, study_page
    from recalib.study.study import Study, larger_than, read_study, run_study

    require_drawing()
    job = _job(given)
    job = replace(job, recipe=replace(job.recipe, model=job.resolved().recipe.model))
    larger = given.deeper or larger_than(str(job.recipe.model))
    if larger == "none" or given.placement or given.weights is not None:
        larger = given.deeper if given.deeper != "none" else None
    study = Study(
        job=job, attention=given.attention, identity=given.weights is not None, larger=larger,
        placement=given.placement, seeds=given.seeds, runtime=given.runtime, rounds=given.rounds,
    )  # fmt: skip
    cluster, stopped = given.where.cluster(), None
    gpus = given.where.cards(cluster) if cluster else 0
    try:
        results = run_study(study, given.jobs, given.minutes, cluster, gpus)
    except WorkFailed as error:  # what is done is a study of fewer seeds
        stopped, results = error, read_study(study)
    show_study(results)
    command = shlex.join(["recalib", "study", *map(without_place, argv)])
    page = given.out / "study.html"
    page.write_text(study_page(results, command), encoding="utf-8")
    print(page)
    write_json(given.json, results)
    if stopped is not None:
        raise stopped
    return 0


def _job(given: Arguments) -> Any:
    """The baseline's job."""
    from recalib.classification import RECIPES, ClassificationJob
    from recalib.detection.job import DetectionJob
    from recalib.detection.recipes import RECIPES as DETECTION

    preset = "finetune-short" if given.recipe == "finetune" else given.recipe
    if preset not in RECIPES and preset not in DETECTION:
        raise unknown("recipe", given.recipe, ["finetune", *RECIPES, *DETECTION])
    own: dict[str, Any] = {
        name: getattr(given, name)
        for name in ("model", "weights", "epochs", "limit", "batch", "lr", "precision")
        if getattr(given, name) is not None
    }
    own |= {"seed": given.seed}
    common: dict[str, Any] = {"data": given.data, "out": given.out, "preset": preset, "accelerator": given.accelerator,
              "devices": given.devices, "workers": given.workers}  # fmt: skip
    if preset in DETECTION:
        return DetectionJob(recipe=replace(DETECTION[preset], **own), **common)
    job = ClassificationJob(recipe=replace(RECIPES[preset], **own), **common)
    if job.recipe.model is None and job.recipe.weights is None:
        raise RecalibError("which network? Give --model, or --weights that tell it")
    return job
