"""`recalib recommend`: the most accurate network within a budget on this machine."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from recalib.choose.budget import Budget, quantity
from recalib.choose.recommend import Wish, recommendation
from recalib.cli.arguments import ImageSize, parse
from recalib.cli.engine import MEASURING, MeasuringEngine, measured_away
from recalib.cli.json_file import write_json
from recalib.cli.measuring import measured
from recalib.measure.run import Measured
from recalib.measure.schedule import MODULES, WITHIN, Schedule
from recalib.measure.session import How


@dataclass
class Arguments:
    """Recommend a network and module within a budget, from times measured here and known accuracies.

    What --results holds for this setting is not measured again; the rest is, into OUT, where the next call finds it.

    Examples:
      recalib recommend resnet --latency 40ms --runtime openvino
      recalib recommend resnet18 resnet50 --throughput 60 --batch 8 --size 320
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="[FAMILY_OR_MODEL ...]")] = ("resnet",)
    """a family (resnet, mobilenet) or names of networks"""
    latency: str | None = None
    """longest time for a batch, such as 5ms"""
    throughput: str | None = None
    """fewest images per second"""
    memory: str | None = None
    """most bytes of weights and of the largest layer's maps, such as 200MB"""
    params: str | None = None
    """most parameters, such as 25M"""
    size: ImageSize = 224
    """side of the images in pixels, or height and width"""
    batch: int = 1
    """images in one forward pass"""
    runtime: str = "openvino"
    """eager, compile, onnxruntime, openvino"""
    precision: str = "fp32"
    """fp32, bf16, fp16 or int8"""
    attention: tuple[str, ...] = MODULES
    """attention modules to consider; the plain network always is"""
    weights: Path | None = None
    """checkpoint for the one network; random weights by default, which take the same time"""
    rounds: int | None = None
    """samples a network; by default 10 to 100, as fit into a time budget"""
    data: Path | None = None
    """labelled images (ImageNet's val or CIFAR): with --weights, the accuracy of each form is measured"""
    calibration: Path | None = None
    """images for int8, and to tell how far a reduced precision is from float32"""
    runs: Path | None = None
    """a run of yours, or the folder of your runs: those of one recipe give the accuracies instead of published ones"""
    results: tuple[Path, ...] = ()
    """files of recalib compare or latency with what was measured before; of another machine, nothing is measured"""
    out: Path = Path("recalib-recommend")
    """folder for what is measured"""
    json: Path | None = None
    """file for the recommendation and everything considered"""
    where: MEASURING = field(default_factory=MeasuringEngine)


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib recommend")
    limits = {name: getattr(args, name) for name in ("latency", "throughput", "memory", "params")}
    budget = Budget(**{name: text and quantity(name, text) for name, text in limits.items()})
    away = measured_away(args.where, "recommend", argv, args.out, args.json, resumes=False)
    if away is not None:
        return away
    names = ("rounds", "weights", "data", "calibration")
    how = How(**{name: getattr(args, name) for name in names}, within=None if args.rounds else WITHIN)
    wish = Wish(
        args.models, args.attention, budget, size=args.size, batch=args.batch, runtime=args.runtime,
        precision=args.precision, how=how, runs=args.runs, results=args.results,
    )  # fmt: skip

    def measure(model: str, schedule: Schedule) -> Measured:
        return measured(schedule, args.out / f"{model.replace(':', '_')}.jsonl", "recommend", argv, resume=True)

    chosen = recommendation(wish, measure)
    setting = {"resolution": args.size, "batch": args.batch, "runtime": args.runtime, "precision": args.precision}
    write_json(args.json, {"budget": asdict(budget), "setting": setting, **chosen.to_dict()})
    for line in chosen.lines:
        Console().print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
    return 0
