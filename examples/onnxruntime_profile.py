"""Where the time of a network goes in ONNX Runtime on a CPU: by kind of node, with and without attention.

python examples/onnxruntime_profile.py resnet50 --modules ab se gct --batch 1
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
import torch
import tyro
from tyro.conf import Positional

from recalib import deploy
from recalib.measure import networks
from recalib.runtimes.export import to_onnx

WALL = "by the clock"
WARM_UP = 5
NCHWC = "com.microsoft.nchwc"


@dataclass
class Arguments:
    """Profile of a network, plain and with modules."""

    model: Positional[str] = "resnet50"
    modules: tuple[str, ...] = ("ab", "eca", "se", "srm", "gct")
    batch: int = 1
    runs: int = 40
    threads: int = torch.get_num_threads()
    inserted: bool = False
    """Show the modules as they were inserted, not deployed (the plain network is deployed in either case)."""


class Profiled:
    """A session that notes the time of its nodes, and the graph that it runs."""

    def __init__(self, model: torch.nn.Module, arguments: Arguments, folder: Path) -> None:
        shape = (arguments.batch, 3, 224, 224)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        self.session = onnxruntime.InferenceSession(
            to_onnx(model, torch.randn(shape)), options, providers=["CPUExecutionProvider"]
        )
        self.input = {self.session.get_inputs()[0].name: torch.randn(shape).numpy()}
        graph = onnx.load(folder / "optimized.onnx", load_external_data=False).graph
        self.kinds = {node.name: kind(node) for node in graph.node}
        self.clock: list[float] = []

    def run(self) -> None:
        """One forward pass."""
        start = time.perf_counter()
        self.session.run(None, self.input)
        self.clock.append((time.perf_counter() - start) * 1e3)

    def table(self) -> tuple[dict[str, float], Counter[str]]:
        """Milliseconds of one run by kind of node, medians over the runs, and how many nodes of a kind there are."""
        runs: list[Counter[str]] = [Counter()]
        for event in json.loads(Path(self.session.end_profiling()).read_text()):
            if event["name"] == "model_run":  # written when the run ends, after its nodes
                runs.append(Counter())
            elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                runs[-1][self.kinds.get(name, event["args"]["op_name"])] += event["dur"]
        runs = [run for run in runs if run][WARM_UP:]
        ms = {kind: median(run[kind] for run in runs) / 1e3 for kind in runs[0]}
        return {WALL: median(self.clock[WARM_UP:]), **ms}, Counter(self.kinds.values())


def kind(node: onnx.NodeProto) -> str:
    """Type of a node, its layout, and what is fused into it."""
    if node.op_type in ("Conv", "FusedConv"):
        fused = "with sum" if len(node.input) > 3 else ""
        return " ".join(filter(None, ("Conv", "" if node.domain == NCHWC else "unblocked", fused)))
    return node.op_type


def main(arguments: Arguments) -> None:
    backbones = {arguments.model: networks.backbone(arguments.model)}
    shape = (arguments.batch, 3, 224, 224)
    names = ("baseline", *arguments.modules)
    with TemporaryDirectory() as folder:
        sessions = []
        for name in names:
            model = networks.network(backbones, arguments.model, name).made()
            if name == "baseline" or not arguments.inserted:
                model = deploy(model, shape, target="onnxruntime")
            (place := Path(folder) / name).mkdir()
            sessions.append(Profiled(model, arguments, place))
        for _ in range(arguments.runs + WARM_UP):
            for session in sessions:
                session.run()
        tables = [session.table() for session in sessions]
    print(f"{'ms (nodes) of one run':24}" + "".join(f"{name:>16}" for name in names))
    kinds = {kind for ms, _ in tables for kind in ms}
    for kind in sorted(kinds, key=lambda kind: -sum(ms.get(kind, 0) for ms, _ in tables)):
        print(f"{kind:24}" + "".join(f"{ms.get(kind, 0):10.2f} ({count[kind]:3})" for ms, count in tables))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
