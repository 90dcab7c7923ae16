"""A day on a rented GPU, rehearsed on a CPU: stages that work, fail, hang and die, each leaving the others alone."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from recalib.errors import RecalibError
from recalib.measure import gpu_day, gpu_stages
from recalib.measure.gpu_day import Records, chosen

ABSENT = ("tyro", "rich", "lightning_fabric", "scipy", "altair", "jinja2", "msgspec", "psutil", "onnx", "platformdirs")
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Rented(PathFinder):
    @classmethod
    def find_spec(cls, name, *args):
        return None if name.partition(".")[0] in {ABSENT} else super().find_spec(name, *args)

sys.meta_path[sys.meta_path.index(PathFinder)] = Rented
"""


def python(code, *args, limit=240):
    """A process of its own, as days are: they fork, which a test's process with its threads should not."""
    command = [sys.executable, "-c", WITHOUT + textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env={**os.environ}, check=False)


def records_of(out):
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unlucky(tmp_path_factory):
    """What is left of a day of which every stage but the first and the last goes wrong in a way of its own."""
    out = tmp_path_factory.mktemp("day")
    run = python(
        """
        import os, pathlib, signal, subprocess, sys, time
        from recalib.measure.gpu_day import Stage, run

        def works(records):
            records.write("number", value=1)
            print("said by works")

        def fails(records):
            records.write("before it failed", value=2)
            raise ValueError("as it was told to")

        def hangs(records):
            records.write("child", pid=subprocess.Popen(["sleep", "600"]).pid)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)

        def dies(records):
            os.kill(os.getpid(), signal.SIGSEGV)

        stages = [Stage(f.__name__, "A", 1.0, "", f) for f in (works, fails, hangs, dies)]
        stages += [Stage("too long", "B", 3600.0, "", works), Stage("after all", "B", 1.0, "", works)]
        done = run(stages, 2, pathlib.Path(sys.argv[1]), lambda records: f"{len(records)} records")
        sys.exit(0 if not done else 3)
        """,
        out,
    )
    assert run.returncode == 0, run.stderr
    return out


def test_whatever_a_stage_does_the_next_one_runs(unlucky):
    ended = {r["what"]: r["status"] for r in records_of(unlucky) if r["stage"] == "day"}
    assert ended == {
        "works": "ok",
        "fails": "failed",
        "hangs": "timeout",
        "dies": "died of SIGSEGV",
        "too long": "skipped",
        "after all": "ok",
    }


def test_what_was_measured_before_a_failure_is_kept_with_its_traceback(unlucky):
    kept = {(r["stage"], r["what"]): r for r in records_of(unlucky)}
    assert kept["works", "number"]["value"] == kept["after all", "number"]["value"] == 1
    assert kept["fails", "before it failed"]["value"] == 2
    assert kept["fails", "failure"]["error"] == "ValueError: as it was told to"
    assert "in fails" in kept["fails", "failure"]["traceback"]
    assert 'File "recalib/measure/gpu_day.py"' in kept["fails", "failure"]["traceback"], "paths of machines stay there"
    assert "needed" in kept["day", "too long"]["reason"]


def test_a_stage_that_hangs_is_ended_with_all_that_it_started(unlucky):
    pid = next(r["pid"] for r in records_of(unlucky) if r["what"] == "child")
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert state.strip()[:1] in ("", "Z"), "gone, or dead and not yet collected by the process that inherited it"


def test_three_small_files_are_all_that_is_left(unlucky):
    assert sorted(path.name for path in unlucky.iterdir()) == ["log.txt", "records.jsonl", "summary.txt"]
    assert "said by works" in (unlucky / "log.txt").read_text()
    assert (unlucky / "summary.txt").read_text().strip().endswith("records")


def test_a_day_is_rehearsed_in_tiny_sizes_with_the_libraries_of_a_rented_machine(tmp_path):
    out = tmp_path / "day"
    stages = ("machine", "check", "t3", "t1_eager")
    run = python(
        "from recalib.cli import main; sys.exit(main(sys.argv[1:]))",
        *("bench", "--gpu-day", "--rehearse", "--out", out, "--stages", *stages),
    )
    failures = [record for record in records_of(out) if record["what"] == "failure" or record.get("status") == "wrong"]
    assert run.returncode == 0, (run.stdout, run.stderr, failures)
    assert {r["what"]: r["status"] for r in records_of(out) if r["stage"] == "day"} == dict.fromkeys(stages, "ok")
    measured = {r["what"]: r for r in records_of(out)}
    assert measured["t3 graph: se"]["ratio"].keys() == {"ratio", "low", "high"}
    assert measured["cases"]["total"] > 50
    assert measured["device"]["versions"]["torch"]
    assert "t3 eager: srm" in run.stdout
    assert "8-14" in run.stdout, "the prediction stands beside what was measured"


@pytest.mark.slow
def test_the_rest_of_a_day_too(tmp_path):
    run = python(
        "from recalib.cli import main; sys.exit(main(sys.argv[1:]))",
        *("bench", "--gpu-day", "--rehearse", "--minutes", 30, "--out", tmp_path, "--stages"),
        *("bandwidth", "t2", "measure", "tune", "t6", "t1_compiled"),
        limit=1500,
    )
    ended = {r["what"]: r["status"] for r in records_of(tmp_path) if r["stage"] == "day"}
    assert set(ended.values()) <= {"ok", "timeout"}, (run.stdout, run.stderr)
    assert ended["t2"] == ended["measure"] == "ok"


@pytest.mark.gpu
@pytest.mark.timeout(400)
@pytest.mark.skipif(not gpu_stages.torch.cuda.is_available(), reason="no GPU here")
def test_every_kernel_on_this_gpu(tmp_path):
    run = python(
        "from recalib.cli import main; sys.exit(main(sys.argv[1:]))",
        *("bench", "--gpu-day", "--minutes", 5, "--out", tmp_path, "--stages", "machine", "check"),
        limit=360,
    )
    assert run.returncode == 0, (run.stdout, [r for r in records_of(tmp_path) if r.get("status") == "wrong"])


def test_stages_are_chosen_by_name_and_by_part():
    stages = gpu_stages.stages(gpu_stages.TINY)
    assert [stage.name for stage in chosen(stages, ["A"])] == ["machine", "check", "t3", "bandwidth"]
    assert [stage.name for stage in chosen(stages, ["t6", "machine"])] == ["machine", "t6"]
    assert sum(stage.seconds for stage in chosen(stages, ["A"])) <= 4 * 60
    assert sum(stage.seconds for stage in chosen(stages, ["B"])) <= 7 * 60
    with pytest.raises(RecalibError, match="unknown stage 't4'; did you mean"):
        chosen(stages, ["t4"])


def test_a_file_of_records_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_day, "MOST_BYTES", 1000)
    records = Records(tmp_path / "records.jsonl", "stage")
    for _ in range(10):
        records.write("samples", ms=[1.0] * 100, median_ms=1.0)
    found = records.read()
    assert "ms" in found[0]
    assert "ms" not in found[-1]
    assert found[-1]["median_ms"] == 1


def test_a_line_that_was_cut_off_is_skipped(tmp_path):
    path = tmp_path / "records.jsonl"
    records = Records(path, "stage")
    records.write("first")
    path.write_text(path.read_text() + '{"stage": "cut')
    assert [record["what"] for record in records.read()] == ["first"]


def test_a_day_needs_a_time_and_a_gpu(capsys):
    from recalib.cli import main

    with pytest.raises(RecalibError, match="minutes=0"):
        gpu_day.run([], 0, None, str)
    if not gpu_stages.torch.cuda.is_available():
        assert main(["bench", "--gpu-day"]) == 2
        assert "needs an NVIDIA GPU; --rehearse" in capsys.readouterr().err
    assert main(["bench", "--gpu-day", "--list", "--stages", "A"]) == 0
    assert "t3" in capsys.readouterr().out
