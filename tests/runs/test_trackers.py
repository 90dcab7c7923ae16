import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import wandb
from tests.tracked import tensorboard_scalars, wandb_file, wandb_records, wandb_rows

from recalib import runs
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import check_trackers


@pytest.fixture
def open_trackers():
    """Trackers that are closed again."""
    opened = []

    def open_and_remember(*arguments):
        opened.extend(runs.open_trackers(*arguments))
        return opened

    yield open_and_remember
    for tracker in opened:
        tracker.close()


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_row_is_on_disk_when_it_was_logged(open_trackers, tmp_path):
    (tracker,) = open_trackers((), tmp_path, {}, None)
    tracker.log(3, {"top1": 50.0})
    assert rows(tmp_path) == [{"step": 3, "top1": 50.0}]


def test_rows_after_the_checkpoint_are_dropped_and_a_line_cut_short_with_them(open_trackers, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    (tracker,) = open_trackers((), tmp_path, {}, 2)
    tracker.log(3, {"again": True})
    assert rows(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_a_run_that_begins_has_no_rows(open_trackers, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    open_trackers((), tmp_path, {}, None)
    assert rows(tmp_path) == []


def test_a_full_disk_is_said(open_trackers, tmp_path):
    (tracker,) = open_trackers((), tmp_path, {}, None)
    tracker.file.close()
    tracker.file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115 - closed by the fixture
    with pytest.raises(WorkFailed, match=r"/dev/full could not be written: .*No space left"):
        tracker.log(1, {"top1": 1.0})


def test_an_unknown_tracker_names_the_known():
    with pytest.raises(RecalibError, match="unknown tracker 'wandbb'; did you mean wandb"):
        check_trackers(("wandbb",))


@pytest.mark.parametrize(
    ("name", "extra"), [("tensorboard", "track"), ("wandb", "track"), ("mlflow", "track"), ("trackio", "trackio")]
)
def test_a_tracker_that_is_not_installed_says_what_to_install(monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RecalibError, match=rf"--track {name}: .*{name} not installed: pip install '.*\[{extra}\]'"):
        check_trackers((name,))


def test_tensorboard_shows_every_number(open_trackers, tmp_path):
    _, tracker = open_trackers(("tensorboard",), tmp_path, {}, None)
    tracker.log(7, {"top1": 50.0, "epoch": 0, "names": ["a"]})  # not closed: a kill loses nothing
    assert tensorboard_scalars(tmp_path) == {"top1": [(7, 50.0)], "epoch": [(7, 0.0)]}


def test_tensorboard_shows_a_row_that_was_made_again_once(open_trackers, tmp_path):
    _, killed = open_trackers(("tensorboard",), tmp_path, {}, None)
    for step in (5, 10):
        killed.log(step, {"top1": step})
    *_, resumed = open_trackers(("tensorboard",), tmp_path, {}, 5)
    for step in (10, 15):
        resumed.log(step, {"top1": step + 0.5})
    assert tensorboard_scalars(tmp_path) == {"top1": [(5, 5), (10, 10.5), (15, 15.5)]}


@pytest.fixture
def wandb_mode(monkeypatch, tmp_path):
    """W&B with nobody logged in, in a mode; it reads its settings once a process."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()
    yield lambda mode: monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()


@pytest.fixture
def offline(wandb_mode):
    wandb_mode("offline")


@pytest.mark.usefixtures("offline")
def test_wandb_holds_the_configuration_and_the_rows_under_the_folders_name(open_trackers, tmp_path):
    _, tracker = open_trackers(("wandb",), tmp_path, {"lr": 0.1}, None)
    tracker.log(7, {"top1": 50.0, "names": ["a"]})
    tracker.close()
    wandb.teardown()  # its own process writes the file, and has written it when it ends
    assert wandb_rows(tmp_path) == [{"_step": 7, "top1": 50.0, "names": ["a"]}]
    (run,) = wandb_records(tmp_path, "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.display_name, run.project, config["lr"]) == (tmp_path.name, "recalib", 0.1)


@pytest.mark.usefixtures("offline")
def test_wandb_goes_on_with_the_same_run_and_has_every_row_once(open_trackers, tmp_path):
    def run_to(steps, resumed):
        trackers = open_trackers(("wandb",), tmp_path, {}, resumed)[-2:]
        for step, tracker in itertools.product(steps, trackers):
            tracker.log(step, {"top1": float(step)})
        for tracker in trackers:
            tracker.close()
        return wandb_file(tmp_path).name

    assert run_to((5, 10), None) == run_to((10, 15), 5)
    wandb.teardown()
    assert wandb_rows(tmp_path) == [{"_step": step, "top1": step} for step in (5, 10, 15)]


def test_wandb_online_is_not_given_again_what_it_has(open_trackers, tmp_path, monkeypatch):
    given = []
    # stands in for W&B's server, which tells that it has steps up to 10
    run = types.SimpleNamespace(starting_step=11, log=lambda row, step: given.append(step), finish=lambda: None)
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n{"step": 10}\n')
    _, tracker = open_trackers(("wandb",), tmp_path, {}, 5)
    for step in (10, 15):
        tracker.log(step, {})
    assert given == [15]


def test_wandb_without_an_account_names_the_offline_mode(tmp_path, wandb_mode):
    wandb_mode("online")
    with pytest.raises(RecalibError, match=r"--track wandb: No API key.* WANDB_MODE=offline needs no account$"):
        runs.trackers.WeightsAndBiases(tmp_path, {}, None)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """The address of a server of the whole MLflow, which the client's package does not bring."""
    try:
        version("mlflow")
    except PackageNotFoundError:
        pytest.skip("the server is in the package mlflow, which does not allow pyarrow 26 yet: pip install mlflow")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(params=["a folder", "a server"])
def mlflow_store(request, monkeypatch, tmp_path):
    """MLflow's client, which keeps runs in a folder or sends them to a real server."""
    uri = request.getfixturevalue("mlflow_server") if request.param == "a server" else f"file:{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(None)  # as the variable says
    return mlflow.MlflowClient()


def mlflow_rows(client, folder, name):
    history = client.get_metric_history((folder / "mlflow-id").read_text(), name)
    return [(metric.step, metric.value) for metric in sorted(history, key=lambda metric: metric.step)]


def test_mlflow_holds_the_configuration_and_every_row_once(open_trackers, mlflow_store, tmp_path):
    """A run is killed after the steps 5 and 10; the checkpoint is of step 5, so that 10 is made again."""

    def run_to(steps, resumed):
        trackers = open_trackers(("mlflow",), tmp_path, {"recipe": {"lr": 0.1}}, resumed)[-2:]
        for step, tracker in itertools.product(steps, trackers):
            tracker.log(step, {"top1": step / 4, "names": ["a"]})
        return trackers

    run_to((5, 10), None)
    for tracker in run_to((10, 15), 5):
        tracker.close()
    assert mlflow_rows(mlflow_store, tmp_path, "top1") == [(5, 1.25), (10, 2.5), (15, 3.75)]
    run = mlflow_store.get_run((tmp_path / "mlflow-id").read_text())
    assert (run.info.run_name, run.info.status, run.data.params) == (tmp_path.name, "FINISHED", {"lr": "0.1"})


def test_a_server_that_does_not_answer_is_one_line(open_trackers, monkeypatch, tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    pytest.importorskip("mlflow").set_tracking_uri(None)
    with pytest.raises(RecalibError, match=rf"--track mlflow: {uri}: .*MLFLOW_TRACKING_URI names the server") as error:
        open_trackers(("mlflow",), tmp_path, {}, None)
    assert "\n" not in str(error.value)


class Flaky:
    """A tracker that is down for a while."""

    def __init__(self):
        self.rows, self.down = [], False

    def log(self, step, metrics):
        if self.down:
            raise ConnectionError("no answer\nand a long story")
        self.rows.append((step, metrics))

    def close(self):
        if self.down:
            raise ConnectionError("no answer")


def test_a_tracker_that_goes_down_gets_its_rows_when_it_is_back(capsys):
    flaky = Flaky()
    tracker = runs.trackers.Patient("flaky", flaky, pause=0.0)
    for step in range(5):
        flaky.down = step in (1, 2)
        tracker.log(step, {"top1": step})
    assert flaky.rows == [(step, {"top1": step}) for step in range(5)]
    said = capsys.readouterr().err
    assert said == "--track flaky: no answer; all rows are in metrics.jsonl, --resume sends them again\n"


def test_a_tracker_that_stays_down_ends_no_run(capsys):
    flaky = Flaky()
    tracker = runs.trackers.Patient("flaky", flaky)
    flaky.down = True
    tracker.log(0, {})
    tracker.log(1, {})
    tracker.close()
    assert "no answer" in capsys.readouterr().err


def test_trackio_has_every_row_of_a_resumed_run_once(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed: it does not allow Pillow 13 yet")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    done = subprocess.run([sys.executable, "-c", TRACKIO, str(tmp_path)], capture_output=True, text=True, check=True)
    told = next(line for line in done.stdout.splitlines() if line.startswith("[["))
    assert json.loads(told) == [[5, 5.0], [10, 10.0], [15, 15.0]]


TRACKIO = """
import json, os, pathlib, sys
from recalib.runs import open_trackers
folder = pathlib.Path(sys.argv[1]) / "run"
folder.mkdir()
for steps, resumed in ((5, 10), None), ((10, 15), 5):
    trackers = open_trackers(("trackio",), folder, {"lr": 0.1}, resumed)
    for step in steps:
        for tracker in trackers:
            tracker.log(step, {"top1": float(step)})
    trackers[-1].close()
from trackio.sqlite_storage import SQLiteStorage
(name,) = SQLiteStorage.get_runs("recalib")
print(json.dumps(sorted([row["step"], row["top1"]] for row in SQLiteStorage.get_logs("recalib", name))))
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, server, seconds=240):
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail("the server did not start")
