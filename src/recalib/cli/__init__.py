"""The command line: one thin file a command, imported only when it is called."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, TextIO

from recalib.errors import RecalibError, WorkFailed, unknown

COMMANDS = {
    "bench": "bandwidth of every pass, and overheads of whole networks against the targets",
    "check": "what is wrong with a data set, before anything is trained on it",
    "compare": "measure every module on a network and recommend one, with a report page",
    "completion": "completion of commands, options and names for bash, zsh or fish",
    "convert": "checkpoints of other projects as ours, or as a detector's backbone",
    "cost": "parameters, MACs, FLOPs and bytes moved of a network, in total and per module",
    "detect": "object detection and instance segmentation: check, train, evaluate, predict",
    "evaluate": "accuracy of a checkpoint or run, with its uncertainty, and against another",
    "export": "a network as a file for ONNX Runtime, OpenVINO or torch.export, checked by running it",
    "finetune": "put attention into a trained network and fine-tune it, as the paper's Table 3",
    "latency": "time networks over a grid of sizes, batches, precisions and runtimes, resumable",
    "modules": "the catalogue of channel attention modules",
    "plan": "what a training takes on many devices: step, memory, hours, cost, and what breaks first",
    "predict": "what a network takes images for, with a sheet of the pictures",
    "recommend": "the most accurate network within a budget, from times measured here",
    "report": "figures and one interactive page of anything measured or trained",
    "sites": "where attention can go in a network, and what each place costs",
    "study": "whether attention helps, by more than chance and more than a larger network would",
    "sweep": "search a recipe's settings by a Weights & Biases sweep file, with workers that may die",
    "segment": "semantic segmentation: train, evaluate, predict",
    "train": "train a network by a recipe, into a run folder that can be resumed",
    "trim": "attention that hardly looks at the image becomes a constant, and costs nothing",
    "yolo": "train a YOLO of ultralytics with attention",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 1 (the work failed) or 2 (bad arguments)."""
    args = list(sys.argv[1:] if argv is None else argv)
    with redirect_stdout(_Output(sys.stdout)) as output:
        try:
            return _run(args)
        finally:
            output.flush()


class _Output(io.TextIOBase):
    """Standard output that a reader such as ``head`` may close: what comes after is dropped, and work goes on.

    So a command's files are written whatever became of what it printed.

    Args:
        stream: what is printed to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            return self._drop(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop(0)

    def _drop(self, written: int) -> int:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        return written


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_usage())
        return 0 if args else 2
    if args[0] == "--version":
        from recalib.version import __version__

        print(f"recalib {__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise unknown("command", args[0], COMMANDS)
        command = importlib.import_module(f"recalib.cli.{args[0]}")
        return int(command.main(args[1:]))
    except RecalibError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes the first speaks
            print(f"recalib: {error}", file=sys.stderr)
        return 1 if isinstance(error, WorkFailed) else 2
    except KeyboardInterrupt:
        print("recalib: interrupted", file=sys.stderr)
        return 1


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return f"usage: recalib COMMAND [--help] ...\n\nChannel attention for convolutional networks.\n\n{lines}\n"
