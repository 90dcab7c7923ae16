"""``recalib plan``: what a training takes on many devices, before it is begun."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from recalib.classification import recipe
from recalib.classification.network import build_network
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cost.units import si
from recalib.errors import RecalibError
from recalib.study.plan import DEVICES, Plan, cluster_of, rate_of_run, work_of

# Training images of the data sets, and bytes of one as it is stored; of ImageNet 138 GB for all (its own page)
DATASETS = {"cifar10": (50_000, 3_073), "cifar100": (50_000, 3_074), "imagenet": (1_281_167, 110_000)}
EPOCHS = (10**6, 10**8, 10**10)  # images
STATES = {"sgd": 1, "adam": 2, "adamw": 2}  # floats a parameter that an optimizer keeps
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Arguments:
    """Predict step time, memory, epochs an hour and cost of a recipe on many devices, and what breaks first.

    Begin with the rate of one device: that of a run here, of your own measurement, or an estimate by a data sheet.

    Examples:
      recalib plan imagenet-klomp --gpus 8 --device h200 --data-rate 2GB/s
      recalib plan imagenet-klomp --gpus 64 --rate 2400 --price 2.5
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """its network, batch, precision and epochs"""
    gpus: int = 8
    """devices"""
    device: str = "h100"
    """a100, h100 or h200, in nodes of eight"""
    data_rate: str | None = None
    """of the storage, for all devices together, such as 2GB/s; by default without limit"""
    decode_rate: float | None = None
    """images a second that the processor cores of one device read and augment; by default without limit"""
    rate: float | None = None
    """images a second of one device, measured by you"""
    run: Path | None = None
    """a run of one such device, whose rate it is"""
    model: str | None = None
    """instead of the recipe's network"""
    attention: str | None = None
    """module in it"""
    batch: int | None = None
    """images a step over all devices, instead of the recipe's"""
    images: int | None = None
    """of the data set, instead of the recipe's"""
    image_bytes: float | None = None
    """of a stored image"""
    price: float | None = None
    """of one device's hour, in any currency"""
    json: Path | None = None
    """file for everything, the scales from 1 to 4,096 devices among it"""


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib plan")
    made = _plan(given)
    results = made.results()
    _show(made, results)
    write_json(given.json, results)
    return 0


def _plan(given: Arguments) -> Plan:
    for name in ("gpus", "rate", "decode_rate", "batch", "images", "image_bytes", "price"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            raise RecalibError(f"--{name.replace('_', '-')} {value}: should be above 0")
    if given.rate is not None and given.run is not None:
        raise RecalibError("--rate and --run: give one of the two")
    base = recipe(given.recipe)
    chosen = base if given.model is None else type(base)(**{**vars(base), "model": given.model})
    if chosen.model is None:
        raise RecalibError("which network? Give --model")
    chosen = type(base)(**{**vars(chosen), "attention": given.attention or base.attention})
    cluster = cluster_of(given.device, data_rate=_bytes_a_second(given.data_rate), decode_rate=given.decode_rate)
    images, image_bytes = DATASETS[chosen.dataset or "imagenet"]
    side = chosen.image_size if chosen.dataset in (None, "imagenet") else 32
    network = build_network(chosen, 1000 if side > 32 else 10)
    rate, source = rate_of_run(given.run) if given.run else (given.rate, "measured by you")
    half = chosen.precision != "32-true"
    states = STATES[chosen.optimizer] + bool(chosen.ema)
    work = work_of(network, side, device=DEVICES[given.device], rate=rate, source=source, states=states, half=half)
    return Plan(
        work, cluster, given.gpus, given.batch or chosen.batch, given.images or images,
        given.image_bytes or image_bytes, chosen.epochs, given.price,
    )  # fmt: skip


def _bytes_a_second(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"([\d.]+) *([kMGT]?)(B|bit)(?:/s|ps)", text)
    try:
        if match is None or float(match[1]) <= 0:
            raise ValueError
        return float(match[1]) * _UNITS[match[2]] / (8 if match[3] == "bit" else 1)
    except ValueError:
        raise RecalibError(f"--data-rate {text!r}: should be a rate such as 2GB/s or 10Gbit/s") from None


def _show(made: Plan, results: dict[str, Any]) -> None:
    console, one = Console(soft_wrap=True), made.step()
    table = Table("devices", "batch", "step, ms", "images/s", "bound by", title="as many images a device; an epoch of:")
    for count in EPOCHS:
        table.add_column(si(count).replace(".00", "") + " images", justify="right")
    for each in made.scales():
        hours = [count / each.images_per_second / 3600 for count in EPOCHS]
        table.add_row(
            f"{each.devices:,}", f"{each.batch:,}", f"{each.seconds * 1e3:.1f}", f"{each.images_per_second:,.0f}",
            each.bound, *map(_time, hours),
        )  # fmt: skip
    waiting = f"{one.exposed * 1e3:.1f} waiting for the all-reduce of {one.reduce * 1e3:.1f}"
    room = "" if one.fits else ": does not fit; choose a smaller --batch"
    say = functools.partial(console.print, highlight=False)
    say(
        f"{one.devices:,} devices, {one.batch:,} images a step: {one.seconds * 1e3:.1f} ms, of which "
        f"{one.compute * 1e3:.1f} computing and {waiting}; bound by {one.bound}"
    )
    say(
        f"{one.images_per_second:,.0f} images/s; {results['epochs_per_hour']:.2f} epochs an hour; "
        f"{made.epochs} epochs in {_time(made.hours())}"
    )
    say(f"memory {one.memory / 1e9:.1f} of {made.cluster.memory / 1e9:.0f} GB{room}")
    if made.price is not None:
        say(f"cost {results['cost']:,.0f} at {made.price:g} a device's hour")
    console.print(table)
    for line in ("Assumed:", *(f"  {line}" for line in made.assumptions())):
        say(line)
    say("Breaks first: " + ("; then ".join(made.breaks()) or "nothing up to 4,096 devices"))


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"
