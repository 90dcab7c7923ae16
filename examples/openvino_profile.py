"""Where the time of a deployed network goes in OpenVINO on a CPU: by kind of operation, with and without attention.

python examples/openvino_profile.py resnet50 --modules ab se gct --batch 1
"""

import time
from collections import Counter
from dataclasses import dataclass
from statistics import median

import openvino
import torch
import tyro
from tyro.conf import Positional

from recalib import deploy
from recalib.measure import networks
from recalib.runtimes.export import to_onnx

WALL = "by the clock"
WARM_UP = 5


@dataclass
class Arguments:
    """Profile of a network, plain and with modules, both deployed."""

    model: Positional[str] = "resnet50"
    modules: tuple[str, ...] = ("ab", "eca", "se", "srm", "gct")
    batch: int = 1
    runs: int = 40
    threads: int = torch.get_num_threads()


def prepare(model: torch.nn.Module, arguments: Arguments) -> openvino.InferRequest:
    """A request of the deployed network that counts the time of its operations."""
    shape = (arguments.batch, 3, 224, 224)
    network = to_onnx(deploy(model, shape, target="openvino"), torch.randn(shape))
    config = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": arguments.threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(network), "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(torch.randn(shape).numpy()))
    return request


def run(request: openvino.InferRequest) -> tuple[Counter[str], Counter[str]]:
    """Milliseconds and operations of one run, by kind."""
    ms: Counter[str] = Counter()
    count: Counter[str] = Counter()
    start = time.perf_counter()
    request.infer()
    ms[WALL] = (time.perf_counter() - start) * 1e3
    for node in request.get_profiling_info():
        if node.status == openvino.ProfilingInfo.Status.EXECUTED:
            ms[node.node_type] += node.real_time.total_seconds() * 1e3
            count[node.node_type] += 1
    return ms, count


def main(arguments: Arguments) -> None:
    backbones = {arguments.model: networks.backbone(arguments.model)}
    names = ("baseline", *arguments.modules)
    requests = [prepare(networks.network(backbones, arguments.model, name).made(), arguments) for name in names]
    rounds = [[run(request) for request in requests] for _ in range(arguments.runs + WARM_UP)][WARM_UP:]
    print(f"{'ms (operations) of one run':28}" + "".join(f"{name:>16}" for name in names))
    kinds = sorted({kind for each in rounds[0] for kind in each[0]})
    for kind in sorted(kinds, key=lambda kind: -sum(ms[kind] for ms, _ in rounds[0])):
        middle = [median(each[i][0][kind] for each in rounds) for i in range(len(names))]
        print(f"{kind:28}" + "".join(f"{ms:10.2f} ({rounds[0][i][1][kind]:3})" for i, ms in enumerate(middle)))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
