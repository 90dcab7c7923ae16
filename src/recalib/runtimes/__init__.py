"""Runtimes, one file each, behind one interface; and the timer."""

from recalib.errors import unknown
from recalib.runtimes.base import DTYPES, Runtime, Session, Settings, Unsupported
from recalib.runtimes.compile import MAX_AUTOTUNE, NO_LAYOUT, Compile
from recalib.runtimes.cuda_graph import CudaGraph
from recalib.runtimes.eager import Eager
from recalib.runtimes.onnxruntime import CPU, CUDA, TENSORRT, OnnxRuntime
from recalib.runtimes.openvino import LatencySession, OpenVINO, ThroughputSession
from recalib.runtimes.protocol import PROTOCOLS, Protocol, find_protocol
from recalib.runtimes.tensorrt import TensorRT

_ALL: tuple[Runtime, ...] = (
    Eager(),
    CudaGraph(),
    Compile("compile", {}),
    Compile("compile-max-autotune", MAX_AUTOTUNE),
    Compile("compile-no-layout", NO_LAYOUT),
    OnnxRuntime("onnxruntime", CPU),
    OnnxRuntime("onnxruntime-cuda", CUDA),
    OnnxRuntime("onnxruntime-tensorrt", TENSORRT),
    OpenVINO("openvino", LatencySession),
    OpenVINO("openvino-throughput", ThroughputSession),
    TensorRT(),
)
RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in _ALL}


def find_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        RecalibError: for another name; the nearest ones are named.
    """
    if name not in RUNTIMES:
        raise unknown("runtime", name, RUNTIMES)
    return RUNTIMES[name]


__all__ = [
    "DTYPES",
    "PROTOCOLS",
    "RUNTIMES",
    "Protocol",
    "Runtime",
    "Session",
    "Settings",
    "Unsupported",
    "find_protocol",
    "find_runtime",
]
