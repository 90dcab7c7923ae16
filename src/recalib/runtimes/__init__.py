"""Runtimes, one file each, behind one interface; and the timer."""

from importlib.metadata import entry_points

from recalib.errors import RecalibError, unknown
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
    """The runtime of this name, ours or one that an installed package registers.

    A package adds one by an entry point of the group ``recalib.runtimes``: a `Runtime`, or a class that makes it.

    Raises:
        RecalibError: for another name; the nearest ones are named.
    """
    if name in RUNTIMES:
        return RUNTIMES[name]
    for point in entry_points(group="recalib.runtimes", name=name):
        try:
            found = point.load()
            runtime = found() if isinstance(found, type) else found
        except Exception as error:  # whatever a stranger's package does when it is imported
            raise RecalibError(f"runtime {name!r}: {point.value} cannot be imported ({error})") from None
        if not isinstance(runtime, Runtime):
            raise RecalibError(f"runtime {name!r}: {point.value} is a {type(runtime).__name__}, not a Runtime")
        return runtime
    raise unknown("runtime", name, [*RUNTIMES, *entry_points(group="recalib.runtimes").names])


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
