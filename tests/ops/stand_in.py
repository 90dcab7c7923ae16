"""A driver for Triton that compiles for Hopper without a GPU and takes launches in place of one."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget

PROCESSORS = 132  # of an H100


class Launch(NamedTuple):
    """What a kernel was launched with; tensors by their address."""

    name: str
    programs: int
    operands: tuple


class StandIn:
    """As much of a driver as Triton asks for; tensors lie on the CPU, where kernels cannot harm them.

    Attributes:
        launches: what was launched, where `records`.
        cubins: name and machine code of every kernel that was loaded to be launched.
    """

    def __init__(self, records=True):
        self.records, self.launches, self.cubins = records, [], []
        self.utils = self

    def get_current_device(self):
        return torch.empty(0).get_device()

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_device_properties(self, device):
        return {"max_shared_mem": 232448, "multiprocessor_count": PROCESSORS}

    def load_binary(self, name, kernel, shared, device):
        self.cubins.append((name, kernel))
        return kernel, 1, 0, 0, 1024

    def unload_module(self, module):
        pass

    def launcher_cls(self, source, metadata):
        name = metadata.name

        def take(x, y, z, stream, function, packed, launch_metadata, on_enter, on_exit, *operands):
            if self.records:
                self.launches.append(Launch(name, x * y * z, _plain(operands)))

        return take


def _plain(value):
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.data_ptr() if isinstance(value, torch.Tensor) else value


class Resources(NamedTuple):
    registers: int
    stack: int
    local: int


def resources(machine_code: bytes, folder: Path) -> Resources:
    """What a kernel takes of a processor: registers a thread, and bytes of what does not fit into them."""
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(machine_code)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    told = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", told)
    assert found, told
    return Resources(*map(int, found.groups()))
