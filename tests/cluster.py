"""A Ray cluster of two nodes on this machine, for tests; they are slow, so one is shared by a module."""

from contextlib import contextmanager

import pytest

from recalib.runs import on_ray


@contextmanager
def two_nodes():
    """The first has one core, the second two and the label ``kind=measures``."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as set_for:
        set_for.setenv("RAY_worker_niceness", "0")  # or the tests wait for whatever else this machine does
        cluster = Cluster()
        cluster.add_node(num_cpus=1, object_store_memory=on_ray.STORE, include_dashboard=False)
        add_node(cluster, "measures", 2)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster, kind, cores=1):
    """A node of a kind of its own."""
    node = cluster.add_node(num_cpus=cores, object_store_memory=on_ray.STORE, labels={"kind": kind})
    cluster.wait_for_nodes()
    return node
