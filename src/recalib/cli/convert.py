"""``recalib convert``: checkpoints of other projects as ours, or as a detector's backbone."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from torch import nn
from tyro.conf import Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.surgery import CheckpointInfo, inspect_checkpoint, load_checkpoint, save_checkpoint
from recalib.surgery.checkpoints import save_backbone


@dataclass(frozen=True)
class Arguments:
    """Convert a checkpoint of another project, and say what it is.

    The format, the network and its attention are recognised; nothing in the file is executed. docs/checkpoints.md
    lists the formats.

    Examples:
      recalib convert eca_resnet50_k3557.pth.tar eca_resnet50.safetensors
    """

    source: Annotated[Positional[Path], arg(metavar="SRC")]
    """a file of torch.save or safetensors"""
    target: Annotated[Positional[Path], arg(metavar="DST")]
    """the file to write: *.safetensors, or for a backbone also *.pth"""
    to: Literal["recalib", "detection"] = "recalib"
    """a network for recalib.load_checkpoint, or a backbone for a detector, without the classifier"""
    model: str | None = None
    """the network, where it cannot be told from the file; as `recalib cost` takes it"""
    json: Path | None = None
    """file for what was recognised"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib convert")
    _check_target(args)
    model = None if args.model is None else _model(args.model, args.source)
    info = inspect_checkpoint(args.source, model=model)
    write_json(args.json, {**asdict(info), "model": args.model, "to": args.to, "target": str(args.target)})
    console = Console(markup=False, highlight=False)
    console.print(_table(info, args))
    _convert(args, info, model)
    console.print(f"wrote {args.target}", soft_wrap=True)
    return 0


def _check_target(args: Arguments) -> None:
    if args.to == "recalib" and args.target.suffix != ".safetensors":
        raise RecalibError(f"{args.target}: a network of recalib's is stored as *.safetensors")
    if args.target.exists() and args.source.exists() and args.target.samefile(args.source):
        raise RecalibError(f"{args.target}: would replace the file it is made from; give another name")


def _model(name: str, source: Path) -> nn.Module:
    """The named network with as many classes as the checkpoint has."""
    network = create_model(name)
    classes = inspect_checkpoint(source, model=network).num_classes
    return network if classes is None else create_model(name, num_classes=classes)


def _convert(args: Arguments, info: CheckpointInfo, model: nn.Module | None) -> None:
    about: dict[str, Any] = {
        "normalization": info.normalization,
        "converted_from": {"file": args.source.name, "format": info.format, **info.metadata},
    }
    if args.to == "recalib":
        save_checkpoint(load_checkpoint(args.source, model=model), args.target, **about)
    else:
        classes = 1 if info.num_classes is None else None  # a classifier that is dropped again, where the file has none
        save_backbone(load_checkpoint(args.source, model=model, num_classes=classes), args.target, **about)


def _table(info: CheckpointInfo, args: Arguments) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    for name, value in _facts(info, args):
        table.add_row(name, value)
    return table


def _facts(info: CheckpointInfo, args: Arguments) -> list[tuple[str, str]]:
    network = args.model or info.architecture or "not recognised; give --model"
    classes = "no classifier" if info.num_classes is None else f"{info.num_classes} classes"
    facts = [
        ("format", f"{info.format} ({info.source})"),
        ("network", f"{network}, {classes}"),
        ("attention", _attention(info)),
    ]
    if info.normalization is not None:
        mean, std = (" ".join(map(str, values)) for values in info.normalization)
        facts.append(("images", f"mean {mean}, std {std}"))
    if info.metadata:
        facts.append(("says", ", ".join(f"{key}={value}" for key, value in info.metadata.items())))
    lists = {"missing": info.missing, "unexpected": info.unexpected, "differing": info.differing}
    return facts + [(name, "\n".join(keys) or "none") for name, keys in lists.items()]


def _attention(info: CheckpointInfo) -> str:
    if info.attention is None:
        return "none"
    kernels = "" if info.kernels is None else f", kernels {' '.join(map(str, info.kernels))}"
    return f"{info.attention} in {info.modules} places{kernels}"
