"""Triton's kernels: computed by its interpreter without a GPU, natively with one, and compiled for Hopper anywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.timeout(900)  # on a GPU most of it is compilation, kept from one run to the next
@pytest.mark.parametrize("on", ["interpreter", pytest.param("gpu", marks=[no_gpu, pytest.mark.gpu])])
@pytest.mark.parametrize("cases", ["triton_cases", "gates_cases", "gemm_cases", "broadcast_cases"])
def test_kernels_compute_what_they_say(cases, on):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"TRITON_INTERPRET": "1"} if on == "interpreter" else {})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.ops.interpreted",
        "-W",  # Triton 3.6's interpreter, with any numpy that it runs on
        "ignore:Conversion of an array:DeprecationWarning",
        str(Path(__file__).with_name(f"{cases}.py")),
    ]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


OPERANDS = {
    "moments": ("x", "parts"),
    "integrate": ("x", "centre", "scale", "shift", "residual", "y"),
    "mask_and_reduce": ("dy", "y", "x", "centre", "dm", "out"),
    "differentiate": ("dm", "scale", "x", "stats", "d_stats", "dx"),
}
MAPS = {"x", "y", "dy", "dm", "dx", "residual"}


@pytest.mark.parametrize(("channels_last", "bc", "bp"), [(True, 64, 64), (False, 1, 4096)])
@pytest.mark.parametrize("name", OPERANDS)
def test_on_hopper_every_access_to_a_bfloat16_map_is_16_bytes_wide(name, channels_last, bc, bp, tmp_path, monkeypatch):
    """The compiler alone decides this, from what it can prove of the addresses; it needs no GPU to be asked."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from recalib.ops import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(triton_kernels, name)
    layout = {"C_UNIT": 16, "P_UNIT": 16, "CHANNELS_LAST": channels_last, "BC": bc, "BP": bp}
    constants = {**layout, "ORDER": 2, "RELU": True, "ACC": tl.float32}
    signature, values, aligned = {}, {}, {}
    for i, argument in enumerate(kernel.arg_names):
        if argument in OPERANDS[name]:
            signature[argument] = "*bf16" if argument in MAPS else "*fp32"
            aligned[i,] = [["tt.divisibility", 16]]
        elif argument in constants or (argument == "SPLITS" and name in ("moments", "mask_and_reduce")):
            signature[argument] = "constexpr"
            values[i,] = constants.get(argument, 1)
        else:
            signature[argument] = "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=aligned)
    options = {"num_warps": 4, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    accesses = re.findall(r"(?:ld|st)\.global\S*", compiled.asm["ptx"])
    tiles = len(MAPS.intersection(OPERANDS[name])) + (name == "moments")  # moments reads its first tile twice
    assert sum(".v4.b32" in access for access in accesses) >= 4 * tiles
    assert not [access for access in accesses if "b16" in access]


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
@pytest.mark.parametrize(("type_", "edge", "warps"), [("bf16", 128, 8), ("fp16", 64, 4), ("fp32", 64, 4)])
def test_a_convolution_with_an_epilogue_spills_no_registers_on_hopper(
    type_, edge, warps, precision, tmp_path, monkeypatch
):
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    from recalib.ops.gemm_triton import kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    block = 32 if type_ == "fp32" else 64
    constants = {"RELU": True, "PRECISION": precision, "BP": edge, "BC": edge, "BK": block}
    kinds = dict.fromkeys(constants, "constexpr") | dict.fromkeys(("P", "C_IN", "C_OUT"), "i32")
    kinds |= dict.fromkeys(("scale", "shift"), "*fp32")
    signature = {argument: kinds.get(argument, f"*{type_}") for argument in kernel.arg_names}
    values = {(i,): constants[argument] for i, argument in enumerate(kernel.arg_names) if argument in constants}
    aligned = {(i,): [["tt.divisibility", 16]] for i, a in enumerate(kernel.arg_names) if a not in (*constants, "P")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=aligned)
    options = {"num_warps": warps, "num_stages": 3, "enable_fp_fusion": True}
    ptx = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert "wgmma" in ptx or (type_, precision) == ("fp32", "ieee")
    (tmp_path / "kernel.ptx").write_text(ptx)
    command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "0 bytes spill stores, 0 bytes spill loads" in told.stderr
