"""Stages of `recalib bench --gpu-day`, and what was predicted of them without a GPU.

Needs torch, triton, torchvision, timm and numpy. Every stage also runs on a CPU in tiny sizes, which rehearses it.
"""

import copy
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention import CATALOGUE, PAPER, TYPICAL, create_attention
from recalib.deploy import deploy
from recalib.deploy.tails import fuse_plain_
from recalib.measure import kernels, networks
from recalib.measure.cells import BASELINE
from recalib.measure.gpu_day import Records, Stage
from recalib.measure.kernels import LAYOUTS, Repeated, measure_kernels
from recalib.measure.statistics import ratio_interval
from recalib.measure.training_steps import TrainingSession
from recalib.ops import passes, passes_torch, recalibrate
from recalib.ops.gemm import recalibrated_conv
from recalib.ops.reference import compose
from recalib.ops.tail import tail
from recalib.runtimes import Session, Settings, find_protocol, find_runtime, timer
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.memory import free_memory
from recalib.surgery import insert_

STRICT = tuple(name for name in PAPER if CATALOGUE[name].leeway == 1)  # those that the limits are written for
FUSED = f"{BASELINE}, fused tails"  # the other fast form of a network without attention
LIMITS = {torch.float64: 1e-6, torch.float32: 5e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Sizes:
    """Sizes of everything.

    Attributes:
        model: of T1 to T3.
        side: of its images in pixels.
        batch: of T1 and T2.
        cifar: model of T6, on images of 32 pixels.
        cifar_batches: of T6.
        rounds: samples of a network.
        sites: channels and sides of tails.
        workers: processes of the check.
        values: of the maps that are copied to see what memory gives.
        warm_up_s: seconds that something runs before it is timed.
    """

    model: str = "resnet50"
    side: int = 224
    batch: int = 256
    cifar: str = "cifar_resnet56"
    cifar_batches: tuple[int, ...] = (128, 512)
    rounds: int = 30
    sites: tuple[tuple[int, int], ...] = ((256, 56), (512, 28), (1024, 14), (2048, 7))
    workers: int = 6
    values: int = 2**28
    warm_up_s: float = 0.3


TINY = Sizes("cifar_resnet8", 32, 2, "cifar_resnet8", (2, 3), 5, ((16, 4), (32, 2)), 2, 2**12, 0.0)

# Overheads and shares that were predicted before any of this ran on a GPU, and the limits of the targets, in percent.
PREDICTED = {
    "t3 graph": ("2-6 for AB, ECA, SRM and GCT, 4-8 for SE", 8.0),
    "t3 eager": ("8-14", 15.0),
    "t1 eager": ("1-4", 3.0),
    "t1 compiled": ("2-3 for SE, about 4 for GCT", 3.0),
    "t2": ("1-3 for SE and ECA, 5-10 for SRM and GCT", 3.0),
    "t6": ("fused slower than modules in eager mode at batch 128: launch-bound", None),
    "bandwidth moments": ("80-95 % of a copy", None),
    "bandwidth integrate": ("90 % of a copy", None),
    "bandwidth mask_and_reduce": ("80-90 % of a copy", None),
    "bandwidth differentiate": ("90 % of a copy", None),
}


def stages(sizes: Sizes) -> list[Stage]:
    """All stages in these sizes, in their order: 4 minutes of part A, 7 of part B."""
    rows: list[tuple[str, str, float, str, Callable[[Records, Sizes], None]]] = [
        ("machine", "A", 12, "versions, ceilings of copy and matmul, microseconds of calls", machine),
        ("check", "A", 45, "every kernel against float64, twice for equal bits, two streams at once", check),
        ("t3", "A", 90, "batch 1, as a CUDA graph and in eager mode; a profile of one replay", t3),
        ("bandwidth", "A", 35, "each pass against a copy, at every site", bandwidth),
        ("t1_eager", "B", 35, "training steps, eager", t1_eager),
        ("t1_compiled", "B", 190, "training steps, compiled, one network after the other", t1_compiled),
        ("t2", "B", 45, "inference at a large batch", t2),
        ("t6", "B", 60, "training steps of a CIFAR ResNet", t6),
        ("measure", "B", 50, "deploy(measure=True) for SE; the epilogue against the library's convolution", measure),
        ("tune", "B", 30, "channels a tile, warps, splits", tune),
    ]
    return [Stage(name, part, seconds, what, partial(_quiet, work, sizes)) for name, part, seconds, what, work in rows]


def _quiet(work: Callable[[Records, Sizes], None], sizes: Sizes, records: Records) -> None:
    torch.backends.cudnn.benchmark = True  # for baselines and variants alike
    kernels.WARM_UP_S = sizes.warm_up_s
    work(records, sizes)


def summary(records: Sequence[Mapping[str, Any]]) -> str:
    """Measurement beside prediction, a line a record that has one; then how the stages ended."""
    lines = [f"{'what':44} {'measured, %':>22}  {'limit':>6}  predicted"]
    for record in records:
        predicted, limit = PREDICTED.get(str(record.get("kind")), (None, None))
        if predicted is None or "ratio" not in record or record["ratio"]["low"] == record["ratio"]["high"] == 1:
            continue
        shift = 0.0 if str(record["kind"]).startswith("bandwidth") else 1.0
        middle, low, high = (100 * (record["ratio"][key] - shift) for key in ("ratio", "low", "high"))
        measured = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        lines.append(
            f"{record['what']:44} {measured:>22}  {'' if limit is None else f'{limit:g}':>6}  {predicted}".rstrip()
        )
    ended = [f"{r['what']}: {r['status']}" for r in records if r.get("stage") == "day"]
    failures = [f"{r['stage']}: {r['error']}" for r in records if r.get("what") == "failure"]
    return "\n".join([*lines, "", *ended, *failures])


def machine(records: Records, sizes: Sizes) -> None:
    """The device, its speed, and the cost of calls on its host."""
    settings = _settings()
    records.write("device", **describe(settings))
    device = settings.device
    x = torch.zeros(sizes.values, device=device, dtype=torch.bfloat16)
    y = torch.empty_like(x)
    edge = 8192 if device.type == "cuda" else 64
    a, b = (torch.zeros(edge, edge, device=device, dtype=torch.bfloat16) for _ in range(2))
    copied, multiplied = _median_ms(lambda: y.copy_(x), device), _median_ms(lambda: torch.mm(a, b), device)
    records.write("ceilings", copy_gb_per_s=2 * x.nbytes / copied / 1e6, bf16_tflops=2 * edge**3 / multiplied / 1e9)
    small = torch.zeros(1, 16, 4, 4, device=device, dtype=torch.bfloat16)
    gate = create_attention(TYPICAL[0], 16).to(device, torch.bfloat16).eval().requires_grad_(False)
    calls: dict[str, Callable[[], Any]] = {
        "add_ and relu_": lambda: small.add_(small).relu_(),
        "custom operator": lambda: passes.moments(small, 1),
        "tail": lambda: recalibrate(small, None, gate, small),
    }
    with torch.inference_mode():
        records.write("microseconds of the host", **{name: _host_us(call, device) for name, call in calls.items()})


def check(records: Records, sizes: Sizes) -> None:
    """Every kernel against float64, in processes side by side, since most of the time is compilation.

    Raises:
        RuntimeError: where one of them is wrong or a process dies.
    """
    cases = [*_cases(sizes)]
    context = multiprocessing.get_context("fork")
    parts = [cases[i :: sizes.workers] for i in range(sizes.workers)]
    workers = [context.Process(target=_check_all, args=(part, records)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [record for record in records.read() if record["stage"] == "check" and record.get("status") == "wrong"]
    records.write("cases", total=len(cases), wrong=len(failed))
    if failed or any(worker.exitcode for worker in workers):
        raise RuntimeError(f"{len(failed)} cases wrong, exit codes {[worker.exitcode for worker in workers]}")


Case = tuple[str, Callable[[], None]]


def _check_all(cases: Sequence[Case], records: Records) -> None:
    for name, case in cases:
        try:
            case()
        except Exception as error:
            records.write(name, status="wrong", error=f"{type(error).__name__}: {error}"[:1000])


def _cases(sizes: Sizes) -> Iterator[Case]:
    images = (1, 8) if sizes.batch > 8 else (1, 2)
    shapes = [(n, c, side, side) for c, side in sizes.sites for n in images]
    shapes += [(2, 24, 5, 7), (3, 70, 9, 9), (1, 300, 1, 1)]
    for layout in LAYOUTS:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            for shape in shapes:
                yield f"passes {layout} {dtype} {shape}", partial(_check_passes, shape, dtype, LAYOUTS[layout])
    for name in PAPER:
        for shape in shapes:
            for with_norm in (False, True):
                yield f"tail {name} {shape}", partial(_check_tail, name, shape, torch.bfloat16, with_norm)
        yield f"tail {name} float32", partial(_check_tail, name, shapes[0], torch.float32, True)
        yield f"tail {name} NCHW", partial(_check_tail, name, shapes[0], torch.bfloat16, True, torch.contiguous_format)
        yield f"gradients {name}", partial(_check_gradients, name, (4, *shapes[0][1:]))
        yield f"streams {name}", partial(_check_streams, name, shapes[0])
    for c, side in sizes.sites:
        yield f"epilogue {c}", partial(_check_epilogue, (2, c, side, side))


def _check_passes(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    device = best_device()
    x, r, dy = (_drawn(shape, i, dtype, layout) for i in range(3))
    exact = [t.double() for t in (x, r, dy)]
    scale, shift, centre = (_drawn(size, 9, torch.float32) for size in (shape[:2], shape[:2], shape[1:2]))
    wide = [t.double() for t in (scale, shift, centre)]
    backend = passes.backend_of(x)
    y = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout).relu()
    for order in (1, 2):
        stats = backend.moments(x, order)
        _same_bits(stats, backend.moments(x, order))
        _near(stats, passes_torch.moments(exact[0], order), torch.float32)
        d_stats = torch.ones_like(stats)
        dx = backend.differentiate(dy, scale, x, stats, d_stats)
        _near(dx, passes_torch.differentiate(exact[2], wide[0], exact[0], stats.double(), d_stats.double()), dtype)
    found = backend.integrate(x, centre, scale, shift, r, True)
    _same_bits(found, backend.integrate(x, centre, scale, shift, r, True))
    _near(found, passes_torch.integrate(exact[0], wide[2], wide[0], wide[1], exact[1], True), dtype)
    dm, sums = backend.mask_and_reduce(dy, y, x, centre, True)
    _same_bits(sums, backend.mask_and_reduce(dy, y, x, centre, True)[1])
    wanted, wanted_sums = passes_torch.mask_and_reduce(exact[2], y.double(), exact[0], wide[2], True)
    _near(dm, wanted, dtype)
    _near(sums, wanted_sums, torch.float32)
    for map_ in (dx, found, dm):
        assert map_.stride() == x.stride(), f"strides {map_.stride()}, not {x.stride()}"


def _check_tail(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, with_norm: bool, layout: Any = torch.channels_last
) -> None:
    gate, norm = _modules(name, shape[1], dtype)
    norm_ = norm if with_norm else None
    x, r = (_drawn(shape, i, dtype, layout) for i in range(2))
    with torch.no_grad():
        first, second = (recalibrate(x, norm_, gate, r) for _ in range(2))  # the plan is made, and remembered
        exact = [copy.deepcopy(module).double() for module in (gate, norm)]
        wanted = compose(x.double(), exact[1] if with_norm else None, exact[0], r.double(), True)
    _same_bits(first, second)
    _near(first, wanted, dtype)
    assert first.stride() == x.stride()


def _check_gradients(name: str, shape: tuple[int, ...]) -> None:
    gate, norm = (module.train() for module in _modules(name, shape[1], torch.float32))
    x, r = (_drawn(shape, i, torch.float32).requires_grad_() for i in range(2))
    outcomes = []
    for kind in (torch.float32, torch.float64):
        norm_, gate_ = (copy.deepcopy(module).to(kind) for module in (norm, gate))
        u, shortcut = (t.detach().to(kind).requires_grad_() for t in (x, r))
        if kind == torch.float32:
            y = tail(u, norm_, gate_, shortcut, True)  # type: ignore[arg-type]
        else:
            y = compose(u, norm_, gate_, shortcut, True)
        inputs = [u, shortcut, *norm_.parameters(), *gate_.parameters()]
        outcomes.append(torch.autograd.grad(y.square().sum(), inputs))
    for found, wanted in zip(*outcomes, strict=True):
        error = float((found.double() - wanted).norm() / wanted.norm().clamp_min(1e-6))
        assert error < 1e-3, f"a gradient of shape {tuple(found.shape)} differs by {error:.1e}"


def _check_streams(name: str, shape: tuple[int, ...]) -> None:
    """Tails on two streams at once, many times: what one writes for itself the other must not see."""
    gate, _ = _modules(name, shape[1], torch.bfloat16)
    maps = [(_drawn(shape, i, torch.bfloat16), _drawn(shape, i + 5, torch.bfloat16)) for i in range(2)]
    with torch.no_grad():
        expected = [recalibrate(x, None, gate, r) for x, r in maps]
        if maps[0][0].device.type != "cuda":
            return
        streams = [torch.cuda.Stream() for _ in maps]
        torch.cuda.synchronize()
        found: list[list[Tensor]] = [[], []]
        for _ in range(50):
            for stream, (x, r), results in zip(streams, maps, found, strict=True):
                with torch.cuda.stream(stream):
                    results.append(recalibrate(x, None, gate, r))
        torch.cuda.synchronize()
    for wanted, results in zip(expected, found, strict=True):
        for result in results:
            _same_bits(result, wanted)


def _check_epilogue(shape: tuple[int, int, int, int]) -> None:
    n, c, h, w = shape
    x, r = _drawn((n, max(c // 4, 1), h, w), 0, torch.bfloat16), _drawn(shape, 1, torch.bfloat16)
    weight, scale = _drawn((c, x.shape[1]), 2, torch.bfloat16) * x.shape[1] ** -0.5, _drawn((n, c), 3, torch.float32)
    found = recalibrated_conv(x, weight, None, scale, None, r, True)
    wanted = F.conv2d(x.double(), weight.double()[:, :, None, None]) * scale.double()[..., None, None]
    _near(found, (wanted + r.double()).relu(), torch.bfloat16)


def t3(records: Records, sizes: Sizes) -> None:
    """Deployed networks at batch 1."""
    settings = _settings()
    on_gpu = settings.device.type == "cuda"
    deployed = {name: _deployed(sizes, name, 1, settings) for name in (BASELINE, FUSED, *STRICT)}
    for runtime, kind in (("cuda_graph" if on_gpu else "eager", "t3 graph"), ("eager", "t3 eager")):
        example = torch.randn(1, 3, sizes.side, sizes.side)
        sessions = {name: find_runtime(runtime).prepare(net, example, settings) for name, net in deployed.items()}
        _compare(records, kind, sessions, sizes.rounds)
        with torch.profiler.profile() as profile:
            sessions[TYPICAL[0]].run()
            _synchronize(settings.device)
        order = "device_time_total" if on_gpu else "cpu_time_total"
        table = profile.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60)
        records.write(f"{kind}: profile of one run with {TYPICAL[0]}", table=table)


def bandwidth(records: Records, sizes: Sizes) -> None:
    """Every pass against a copy, at every site; at batch 1, too, where they are launches more than bytes."""
    device = best_device()
    for images in (sizes.batch, 1):
        for channels, side in sizes.sites:
            for kernel in measure_kernels(device, (images, channels, side, side), max(sizes.rounds // 2, 5)):
                where = f"{kernel.name} {kernel.layout} {list(kernel.shape)}"
                values = kernel.to_dict()
                kind = f"bandwidth {kernel.name}" if images == sizes.batch else "batch 1"
                records.write(where, kind=kind, ratio=values.pop("share"), **{**values, "ms": _short(kernel.ms)})
            _free()


def t1_eager(records: Records, sizes: Sizes) -> None:
    """Training steps of networks in turn."""
    _compare(records, "t1 eager", {name: _training(sizes, name) for name in _TRAINED}, sizes.rounds // 2)


_TRAINED = (BASELINE, FUSED, *TYPICAL, f"timm:{TYPICAL[0]}")


def t1_compiled(records: Records, sizes: Sizes) -> None:
    """The same compiled: each beside the plain network, and written before the next is compiled."""
    plain = _training(sizes, BASELINE, compiled=True)
    for name in _TRAINED[1:]:
        start = time.perf_counter()
        sessions = {BASELINE: plain, name: _training(sizes, name, compiled=True)}
        timer.warm_up(sessions[name], 0)
        records.write(f"{name}: compiling", seconds=round(time.perf_counter() - start, 1))
        _compare(records, "t1 compiled", sessions, sizes.rounds // 2)
        del sessions
        _free()


def t2(records: Records, sizes: Sizes) -> None:
    """Deployed networks at a large batch."""
    settings = _settings()
    example = torch.randn(sizes.batch, 3, sizes.side, sizes.side)
    runtime = find_runtime("eager")
    names = (BASELINE, FUSED, *STRICT)
    sessions = {
        name: runtime.prepare(_deployed(sizes, name, sizes.batch, settings), example, settings) for name in names
    }
    _compare(records, "t2", sessions, sizes.rounds // 2)


def t6(records: Records, sizes: Sizes) -> None:
    """Steps of the CIFAR network, and how long 164 epochs of 50,000 images would take at that rate."""
    for batch in sizes.cifar_batches:
        small = replace(sizes, model=sizes.cifar, side=32, batch=batch)
        _t6(records, small, {name: _training(small, name) for name in (BASELINE, FUSED, TYPICAL[0])}, "")
    sessions = {name: _training(small, name, True, "reduce-overhead") for name in (BASELINE, TYPICAL[0])}
    _t6(records, small, sessions, ", reduce-overhead")


def _t6(records: Records, sizes: Sizes, sessions: Mapping[str, Session], how: str) -> None:
    where = f", batch {sizes.batch}{how}"
    medians = _compare(records, "t6", sessions, sizes.rounds, where)
    minutes = {name: 164 * 50_000 / sizes.batch * ms / 60_000 for name, ms in medians.items()}
    records.write(f"t6: minutes of 164 epochs{where}", **minutes)


def measure(records: Records, sizes: Sizes) -> None:
    """Forms chosen by time, and the convolution with its epilogue against the library's and a tail."""
    settings = _settings()
    start = time.perf_counter()
    network = _network(sizes, TYPICAL[0]).to(settings.device, settings.dtype).to(memory_format=torch.channels_last)
    example = torch.randn(1, 3, sizes.side, sizes.side).to(settings.device, settings.dtype)
    chosen = deploy(network, example, measure=True, check=False)
    records.write(
        "deploy(measure=True), se", seconds=time.perf_counter() - start, about=str(getattr(chosen, "about", ""))
    )
    for channels, side in sizes.sites:
        shape = (sizes.batch, channels, side, side)
        h, r = _drawn((sizes.batch, channels // 4, side, side), 0, torch.bfloat16), _drawn(shape, 1, torch.bfloat16)
        weight, scale = _drawn((channels, channels // 4), 2, torch.bfloat16), _drawn(shape[:2], 3, torch.float32)
        backend = passes.backend_of(h)

        def apart(h: Tensor = h, weight: Tensor = weight, scale: Tensor = scale, r: Tensor = r) -> Tensor:
            return backend.integrate(F.conv2d(h, weight[:, :, None, None]), None, scale, None, r, True)  # noqa: B023

        whole = partial(recalibrated_conv, h, weight, None, scale, None, r, True)
        with torch.inference_mode():
            steps = {BASELINE: Repeated(apart, settings.device), "epilogue": Repeated(whole, settings.device)}
            _compare(records, "epilogue", steps, sizes.rounds // 2, f" {list(shape)}")
        _free()


def tune(records: Records, sizes: Sizes) -> None:
    """Tiles and warps other than the rule's, at the largest site; restored afterwards by the end of this process."""
    from recalib.ops import passes_triton

    device, (channels, side) = best_device(), sizes.sites[0]
    for most, warps in ((64, 4), (128, 4), (64, 8), (128, 8), (32, 4)):
        passes_triton.CHANNELS, passes_triton.OPTIONS["num_warps"] = most, warps
        for kernel in measure_kernels(device, (sizes.batch, channels, side, side), 5):
            if kernel.layout == "channels_last":
                values = {**kernel.to_dict(), "ms": _short(kernel.ms)}
                records.write(f"{kernel.name}, {most} channels, {warps} warps", **values)
        _free()


def _settings() -> Settings:
    device = best_device()
    return Settings(
        "bf16" if device.type == "cuda" else "fp32", torch.get_num_threads(), device, find_protocol("clean")
    )


def _network(sizes: Sizes, name: str) -> nn.Module:
    network = networks.backbone(sizes.model)
    if name.partition(",")[0] != BASELINE:
        insert_(network, name)
        networks.perturb_(network)
    return network


def _deployed(sizes: Sizes, name: str, batch: int, settings: Settings) -> nn.Module:
    """Deployed on the device; what it computes was checked kernel by kernel, so it is not checked in float64 again."""
    network = _network(sizes, name).to(settings.device)
    deployed: Any = deploy(network, (batch, 3, sizes.side, sizes.side), check=False)
    return fuse_plain_(deployed) if name == FUSED else deployed


def _training(sizes: Sizes, name: str, compiled: bool = False, mode: str | None = None) -> TrainingSession:
    fused = name == FUSED
    network, settings = _network(sizes, name), _settings()
    images = torch.randn(sizes.batch, 3, sizes.side, sizes.side)
    return TrainingSession(network, images, settings, compiled, fused, mode)


def _compare(
    records: Records, kind: str, sessions: Mapping[str, Session], rounds: int, where: str = ""
) -> dict[str, float]:
    """Time sessions in turn and write each with its ratio to the fastest that has no attention; medians in ms."""
    for session in sessions.values():
        timer.warm_up(session, kernels.WARM_UP_S)
    rows = [list(samples) for samples in timer.interleave([*sessions.values()], max(rounds, 5))]
    times = {name: [row[i].latency_ms for row in rows] for i, name in enumerate(sessions)}
    queued = {name: float(np.median([row[i].enqueue_ms for row in rows])) for i, name in enumerate(sessions)}
    plain = min((name for name in times if name.startswith(BASELINE)), key=lambda name: np.median(times[name]))
    for name, ms in times.items():
        ratio = ratio_interval(ms, times[plain])._asdict()
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_initialized() else None
        values = {"ms": _short(ms), "median_ms": float(np.median(ms)), "enqueue_ms": queued[name], "over": plain}
        records.write(f"{kind}: {name}{where}", kind=kind, ratio=ratio, **values, peak_gib=memory)
    return {name: float(np.median(ms)) for name, ms in times.items()}


def _modules(name: str, channels: int, dtype: torch.dtype) -> tuple[nn.Module, nn.BatchNorm2d]:
    """A gate and a norm at inference with every parameter and statistic in play."""
    generator = torch.Generator().manual_seed(channels)
    gate, norm = create_attention(name, channels), nn.BatchNorm2d(channels)
    for module in (gate, norm):
        for t in (*module.parameters(), *module.buffers()):
            if t.is_floating_point():
                t.data = (torch.rand(t.shape, generator=generator) + 0.2) * (t.shape[1] ** -0.5 if t.ndim == 2 else 1)
        module.to(best_device(), dtype).eval()
    return gate, norm


def _drawn(shape: Sequence[int], seed: int, dtype: torch.dtype, layout: Any = torch.channels_last) -> Tensor:
    drawn = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)).to(best_device(), dtype)
    return drawn.contiguous(memory_format=layout) if len(shape) == 4 else drawn


def _near(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    limit = LIMITS[dtype]
    torch.testing.assert_close(found.double(), wanted, rtol=limit, atol=limit * max(float(wanted.abs().max()), 1.0))


def _same_bits(a: Tensor, b: Tensor) -> None:
    assert torch.equal(a, b), "two runs on the same values differ"


def _median_ms(step: Callable[[], Any], device: torch.device) -> float:
    session = Repeated(step, device)
    timer.warm_up(session, kernels.WARM_UP_S)
    return float(np.median([timer.time_call(session).latency_ms / session.times for _ in range(10)]))


def _host_us(call: Callable[[], Any], device: torch.device, times: int = 200) -> float:
    """Microseconds of this thread, the fastest tenth of many."""
    found = []
    for i in range(times):
        if i % 20 == 0:
            _synchronize(device)  # so that no queue is full
        start = time.thread_time_ns()
        call()
        found.append((time.thread_time_ns() - start) / 1e3)
    return sorted(found)[times // 10]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _short(ms: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in ms]


def _free() -> None:
    free_memory()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
