"""Commands on the nodes of a Ray cluster.

Each runs in a process of its own, under an actor that holds what it was promised of the node, tells its exit status and
output, and takes it along where the actor, its node or this program dies. Ray finds the place and sees what is lost;
what to do then is the caller's: trials and runs go on from their checkpoints, measurements from the cells at home.
"""

import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError, WorkFailed, require_packages
from recalib.runs import ray_process
from recalib.runs.atomic import write_atomically
from recalib.runs.executor import Command

ANSWER = 20.0  # seconds in which a cluster has to answer
SETTINGS = 4  # type of the frame that begins a connection of HTTP/2
STORE = 100 << 20  # bytes of object store of a cluster that we start: what goes over it is lines and small files


class OnRay:
    """A cluster.

    Args:
        address: as ``ray.init`` takes it: HOST:PORT, ``ray://HOST:PORT``, ``auto``, or ``local`` for one of this
            machine that ends with this program; by default what RAY_ADDRESS says, or ``local``.

    Raises:
        RecalibError: where Ray is not installed.
        WorkFailed: where nothing answers at the address.
    """

    queues = True

    def __init__(self, address: str | None = None) -> None:
        require_packages(("ray",), "ray", "--engine ray")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a process that is promised no card sees none
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        _connect(self.address)

    def nodes(self) -> list[Mapping[str, Any]]:
        """The nodes that are there, as Ray describes them."""
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    @property
    def gpus(self) -> int:
        """Cards of all nodes."""
        return round(sum(node["Resources"].get("GPU", 0) for node in self.nodes()))

    def start(self, command: Command) -> "RemoteProcess":
        """Start a command as soon as a node has room for it.

        Raises:
            RecalibError: where no node could ever have.
        """
        fit = [node for node in self.nodes() if _holds(node["Resources"], command)]
        kind = [node for node in fit if command.on is None or is_of_kind(node, command.on)]
        if not kind:
            asked = f"{command.gpus:g} GPUs and {command.cpus:g} CPUs" if not fit else f"--on {command.on}"
            there = "; ".join(_described(node) for node in self.nodes())
            raise RecalibError(f"{asked}: no node of the cluster at {self.address} has that; there are {there}")
        return RemoteProcess(command, kind)


class RemoteProcess:
    """A command on a node.

    Args:
        command: what to run.
        nodes: where it may run, as Ray describes them; where it has to be of a kind or alone, the one that is freest.
    """

    def __init__(self, command: Command, nodes: list[Mapping[str, Any]]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.command, self.lost, self.status = command, False, None
        options: dict[str, Any] = {"num_cpus": command.cpus, "num_gpus": command.gpus, "max_restarts": 0}
        if command.on is not None or command.alone:
            node = _freest(nodes)
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            if command.alone:
                options |= {"num_cpus": node["Resources"].get("CPU", 0), "num_gpus": node["Resources"].get("GPU", 0)}
        threads = os.environ.get("OMP_NUM_THREADS")
        own = {"OMP_NUM_THREADS": threads} if threads else {}
        files = _read(command.folder) if command.folder else None
        ray.cloudpickle.register_pickle_by_value(ray_process)
        kind: Any = ray.remote(ray_process.Process)
        self.actor: Any = kind.options(**options).remote()
        self.started = self.actor.start.remote(list(command.arguments), own, str(Path.cwd()), files, command.alone)
        self.asked: Any = None

    def poll(self) -> int | None:
        """Its exit status; its output is told and its files are brought home on the way."""
        import ray

        if self.status is not None or self.lost:
            return self.status
        try:
            if not ray.wait([self.started], timeout=0)[0]:
                return None
            if self.asked is None:
                failed = ray.get(self.started)
                if failed is not None:
                    raise WorkFailed(failed)
                self.asked = self.actor.poll.remote()
            if not ray.wait([self.asked], timeout=0)[0]:
                return None
            status, text, files = ray.get(self.asked)
        except ray.exceptions.RayTaskError as error:
            raise WorkFailed(f"{self.command.name or 'a command'} on Ray: {error.cause}") from None
        except ray.exceptions.RayError:  # its worker, its actor, its node: there is no end of names
            self.lost = True
            return None
        self._tell(text)
        for name, content in files.items():
            assert self.command.folder is not None
            _write(self.command.folder / name, content)
        self.status = status
        if status is None:
            self.asked = self.actor.poll.remote()
        else:
            ray.kill(self.actor)  # so that another has its place
        return self.status

    def stop(self) -> None:
        """Ask it to stop; one that still waits for a node never begins."""
        import ray

        if self.status is None and not self.lost:
            if ray.wait([self.started], timeout=0)[0]:
                self.actor.stop.remote()
            else:
                ray.kill(self.actor)
                self.lost = True

    def _tell(self, text: str) -> None:
        if not text:
            return
        text = text.replace(ray_process.OUT, str(self.command.folder))
        if self.command.log is not None:
            self.command.log.parent.mkdir(parents=True, exist_ok=True)
            with self.command.log.open("a") as log:
                log.write(text)
        else:
            print(text, end="", flush=True)


def is_of_kind(node: Mapping[str, Any], kind: str) -> bool:
    """Decide whether a node is of a kind.

    Args:
        node: as ``ray.nodes()`` describes it.
        kind: ``cpu`` (no card), ``gpu`` (any card), ``gpu:h100`` (a card whose type in Ray's words ends so, in any
            case), a label ``NAME=VALUE``, or the name of a resource.
    """
    resources, labels = node["Resources"], node.get("Labels") or {}
    name, equals, value = kind.partition("=")
    if equals:
        return str(labels.get(name)) == value
    family, colon, model = kind.partition(":")
    if family == "gpu" and colon:
        cards = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
        cards += [str(labels["ray.io/accelerator-type"])] if "ray.io/accelerator-type" in labels else []
        return any(model.lower() in card.lower().replace("_", "-").split("-") for card in cards)
    if kind in ("cpu", "gpu"):
        return (resources.get("GPU", 0) > 0) == (kind == "gpu")
    return resources.get(kind, 0) > 0


def _holds(resources: Mapping[str, float], command: Command) -> bool:
    cpus = 0 if command.alone else command.cpus
    return resources.get("CPU", 0) >= cpus and resources.get("GPU", 0) >= command.gpus


def _described(node: Mapping[str, Any]) -> str:
    resources = node["Resources"]
    cards = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
    labels = [f"{k}={v}" for k, v in (node.get("Labels") or {}).items() if not k.startswith("ray.io/")]
    told = [f"{resources.get('CPU', 0):g} CPUs", f"{resources.get('GPU', 0):g} GPUs", *cards, *labels]
    return f"{node['NodeManagerAddress']} ({', '.join(told)})"


def _freest(nodes: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The node with the largest share of its cores free."""
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()

    def share(node: Mapping[str, Any]) -> float:
        cores = node["Resources"].get("CPU", 0)
        return float(free.get(node["NodeID"], {}).get("CPU", 0) / cores) if cores else 0.0

    return max(nodes, key=share)


def _connect(address: str) -> None:
    """Join a cluster, in bounded time."""
    import ray

    if ray.is_initialized():
        return
    silent = WorkFailed(f"no Ray cluster answers at {address}: start one with ray start --head, or --address local")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        try:
            _greet(host, int(port))
        except (OSError, ValueError, OverflowError) as error:
            raise WorkFailed(f"{silent} ({error})") from None
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would give what is measured what others leave
        options |= {"include_dashboard": False, "object_store_memory": STORE}
    failed: list[BaseException] = []

    def init() -> None:
        try:
            ray.init(**options)
        except BaseException as error:
            failed.append(error)

    if colon or address == "auto":
        thread = threading.Thread(target=init, daemon=True)
        thread.start()
        thread.join(3 * ANSWER)
        if thread.is_alive():
            raise silent
    else:
        init()
    if failed:
        reason = (str(failed[0]) or type(failed[0]).__name__).strip().splitlines()[0]
        raise WorkFailed(f"{silent} ({reason})") from None


def _greet(host: str, port: int) -> None:
    """Hear a server say that it speaks HTTP/2, as Ray's do; Ray's own client ends the program where nothing answers."""
    with socket.create_connection((host, port), timeout=ANSWER) as to:
        to.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0)))
        said = to.recv(9)
    if len(said) < 4 or said[3] != SETTINGS:
        raise OSError("what answers is no Ray cluster")


def _read(folder: Path) -> dict[str, bytes]:
    """The files in a folder, not in those below it."""
    if not folder.is_dir():
        return {}
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and not file.is_symlink()}


def _write(file: Path, content: bytes) -> None:
    if Path(file.name).name != file.name:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda fresh: fresh.write_bytes(content))
