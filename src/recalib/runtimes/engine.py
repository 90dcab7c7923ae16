"""TensorRT engines, built of ONNX and kept. For TensorRT 10 and 11; never run by the authors, for want of a GPU.

Networks are strongly typed (TensorRT 11 knows no others): a precision is that of the file's tensors, and int8 its Q/DQ
nodes.
"""

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recalib.cache import cache_folder
from recalib.errors import RecalibError, WorkFailed, not_installed
from recalib.runtimes.export import ONNX_PACKAGES


def missing() -> str | None:
    """Reason why no engine can be built or run here, with the command that mends it; None if one can."""
    if absent := not_installed(("tensorrt", *ONNX_PACKAGES), "tensorrt"):
        return absent
    return None if torch.cuda.is_available() else "tensorrt needs an NVIDIA GPU"


@dataclass(frozen=True)
class BuildPlace:
    """Where an engine is built, and the only kind of place where it runs.

    Attributes:
        version: of TensorRT.
        device: name of the GPU.
        capability: its compute capability.
    """

    version: str
    device: str
    capability: tuple[int, int]

    @classmethod
    def here(cls) -> "BuildPlace":
        """This machine's first GPU."""
        import tensorrt

        return cls(str(tensorrt.__version__), torch.cuda.get_device_name(), torch.cuda.get_device_capability())

    @property
    def key(self) -> str:
        """A short name, another one for every other place."""
        return _digest(*map(str, astuple(self)))


def engine_key(network: bytes, shape: tuple[int, ...], precision: str, place: BuildPlace) -> str:
    """Name of an engine, another one for every other network, weights included, shape, precision and place."""
    return _digest(hashlib.sha256(network).hexdigest(), str(tuple(shape)), precision, place.key)


def engine(network: bytes, shape: tuple[int, ...], precision: str) -> bytes:
    """An engine from the cache, or built and put there.

    Args:
        network: ONNX, its tensors in the types to compute in.
        shape: of its input.
        precision: a name in `recalib.runtimes.DTYPES`; of float32 it tells whether TF32 may be used.

    Raises:
        WorkFailed: if TensorRT does not take the network.
    """
    place = BuildPlace.here()
    file = cache_folder("tensorrt") / f"{engine_key(network, shape, precision, place)}.engine"
    if not file.exists():
        _write(file, build(network, cache_folder("tensorrt") / f"{place.key}.timing", tf32=precision == "tf32"))
    return file.read_bytes()


def build(network: bytes, timings: Path, *, tf32: bool) -> bytes:
    """A serialised engine.

    Args:
        network: ONNX, its shapes fixed.
        timings: file of the timing cache, of this place; it is read if it is there, and written.
        tf32: whether float32 convolutions and products may round their operands to TF32.

    Raises:
        WorkFailed: if TensorRT does not take the network.
    """
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(network):
        raise WorkFailed(f"TensorRT does not read the network: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    (config.set_flag if tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    config.set_timing_cache(config.create_timing_cache(timings.read_bytes() if timings.exists() else b""), False)
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise WorkFailed("TensorRT cannot build an engine of the network; it says why on stderr")
    _write(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


class Engine:
    """An engine with its input and output on the GPU.

    Args:
        plan: serialised.

    Raises:
        RecalibError: for one of another version, or of another GPU.

    Attributes:
        input: shape (N, 3, H, W), to be copied to.
        output: shape (N, classes), valid once the current stream is done.
    """

    def __init__(self, plan: bytes) -> None:
        import tensorrt as trt

        self._engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RecalibError("no engine of this TensorRT and GPU")
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()  # on the default one TensorRT waits for the device at every call
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.input, self.output = (self._place(name) for name in sorted(names, key=self._is_output))

    def run(self) -> None:
        """Queue one forward pass on the current stream."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        self._context.execute_async_v3(self._stream.cuda_stream)
        current.wait_stream(self._stream)

    def _is_output(self, name: str) -> bool:
        import tensorrt as trt

        return bool(self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT)

    def _place(self, name: str) -> Tensor:
        dtype = _dtypes()[self._engine.get_tensor_dtype(name)]
        tensor = torch.zeros(tuple(self._engine.get_tensor_shape(name)), dtype=dtype, device="cuda")
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor


def _dtypes() -> dict[Any, torch.dtype]:
    import tensorrt as trt

    return {trt.float32: torch.float32, trt.float16: torch.float16, trt.bfloat16: torch.bfloat16}


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _write(file: Path, content: bytes) -> None:
    """All or nothing: another process may read it at any time."""
    part = file.with_suffix(f"{file.suffix}.part")
    part.write_bytes(content)
    part.replace(file)
