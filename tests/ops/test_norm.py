"""Norms as affine maps, and a batch that is spread over two processes."""

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from recalib import create_attention
from recalib.ops import recalibrate
from recalib.ops.norm import Bias, is_affine, is_synchronized, uses_batch_statistics
from recalib.ops.reference import compose
from recalib.ops.tail import tail


def test_which_norms_are_affine_maps_per_channel():
    from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
    from torchvision.ops import FrozenBatchNorm2d

    batch_norms = nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), BatchNormAct2d(2, apply_act=False)
    assert all(map(is_affine, (*batch_norms, nn.SyncBatchNorm(2), FrozenBatchNorm2d(2))))
    others = nn.GroupNorm(1, 2), nn.InstanceNorm2d(2), BatchNormAct2d(2), FrozenBatchNormAct2d(2)
    dropping = BatchNormAct2d(2, apply_act=False, drop_layer=nn.Dropout2d)
    assert not any(map(is_affine, (*others, dropping)))


def test_a_subclass_that_leaves_the_forward_alone_is_its_parent():
    class Tagged(nn.BatchNorm2d):
        pass

    assert is_affine(Tagged(2))


def test_which_norms_need_the_batch():
    norm = nn.BatchNorm2d(2)
    assert uses_batch_statistics(norm)
    assert not uses_batch_statistics(norm.eval())
    assert uses_batch_statistics(nn.BatchNorm2d(2, track_running_stats=False).eval())
    assert not uses_batch_statistics(None)


def test_one_process_has_nothing_to_synchronize():
    assert not is_synchronized(nn.SyncBatchNorm(2))
    x = torch.randn(4, 2, 3, 3)
    norm = nn.SyncBatchNorm(2)
    torch.testing.assert_close(recalibrate(x, norm, activation="none"), nn.BatchNorm2d(2)(x))


class Network(nn.Module):
    """A convolution and a recalibrated tail, without a shortcut's help."""

    def __init__(self, attention):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8, momentum=None)
        self.attention = None if attention is None else create_attention(attention, 8)
        for p in self.parameters():
            nn.init.normal_(p)

    def forward(self, x):
        y = self.conv(x)
        return recalibrate(y, self.norm, self.attention, y)


GATES = (None, "ab", "se", "eca", "gct", "srm", "timm:se")
SHARES = {"even": (4, 4), "uneven": (6, 2), "one process without images": (8, 0)}


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 4, 5, generator=generator, dtype=torch.double)


def networks():
    torch.manual_seed(0)
    return {gate: Network(gate).double() for gate in GATES}


def train(network, images):
    """Two steps' outputs and what they leave behind: input gradients, parameter gradients, statistics."""
    for _ in range(2):
        x = images.clone().requires_grad_()
        y = network(x)
        y.square().sum().backward()
    gradients = {name.removeprefix("module."): p.grad for name, p in network.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, **gradients, **dict(network.named_buffers())}


def work(rank, folder):
    """One of two processes: every gate and every share of the batch."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {}
    for title, share in SHARES.items():
        images = batch().split(share)[rank]
        for gate, network in networks().items():
            spread = nn.SyncBatchNorm.convert_sync_batchnorm(network)
            results[title, gate] = train(spread, images)  # DDP itself refuses SyncBatchNorm on a CPU
    spread = nn.SyncBatchNorm.convert_sync_batchnorm(networks()["srm"])
    compiled = train(torch.compile(spread, fullgraph=True, backend="aot_eager"), batch().split(SHARES["even"])[rank])
    results["compiled"] = {name.removeprefix("_orig_mod."): t for name, t in compiled.items()}
    network = networks()["se"]
    network.norm = None
    results["ddp"] = train(DistributedDataParallel(network), batch().chunk(2)[rank])
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("title", SHARES)
@pytest.mark.parametrize("gate", GATES)
def test_two_processes_equal_one_with_the_whole_batch(two_processes, gate, title):
    whole = networks()[gate]
    expected = train(whole, batch())
    parts = [results[title, gate] for results in two_processes]
    for key, value in expected.items():
        if key in ("y", "dx"):
            got = torch.cat([part[key] for part in parts])
        elif key in dict(whole.named_buffers()):
            torch.testing.assert_close(parts[0][key], parts[1][key], rtol=0, atol=0)
            got = parts[0][key]
        else:
            got = parts[0][key] + parts[1][key]
        torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}")


def test_synchronized_norms_compile_as_one_graph(two_processes):
    for results in two_processes:
        for name, value in results["even", "srm"].items():
            torch.testing.assert_close(results["compiled"][name], value, rtol=1e-9, atol=1e-12)


def test_data_parallel_training_averages_the_gradients(two_processes):
    network = networks()["se"]
    network.norm = None
    expected = train(network, batch())
    for name, _ in network.named_parameters():
        torch.testing.assert_close(2 * two_processes[0]["ddp"][name], expected[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", [None, "ab", "srm"])
def test_a_bias_stands_where_a_norm_stood(name):
    torch.manual_seed(0)
    bias = Bias(nn.Parameter(torch.randn(6, dtype=torch.double)))
    attention = None if name is None else create_attention(name, 6).double()
    x, r = (torch.randn(3, 6, 2, 5, dtype=torch.double, requires_grad=True) for _ in range(2))
    parameters = [*bias.parameters(), *([] if attention is None else attention.parameters())]
    outcomes = []
    for run in (tail, compose):
        y = run(x, bias, attention, r, True)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), (x, r, *parameters))])
    for got, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
