"""The file of cells loses nothing to a killed process or a broken line."""

import json

import pytest

from recalib.errors import RecalibError
from recalib.measure.cells import Cell, fastest, fastest_forms, fingerprint
from recalib.measure.store import Store

ISSUE = {"model", "module", "runtime", "deployed", "size", "batch", "precision", "params", "macs", "bytes_moved"} | {
    "status",
    "latency_ms",
    "overhead",
}
RUN = {"command": "recalib compare", "code": "0.1.0+abc"}
MACHINE = {"device": "a CPU", "threads": 2}


def cell(module="se", **changes):
    values = {
        "model": "resnet50",
        "module": module,
        "runtime": "eager",
        "deployed": False,
        "size": 224,
        "batch": 1,
        "precision": "fp32",
        "protocol": "clean",
        "machine": fingerprint(MACHINE),
        "latency_ms": {"median": 2.0, "min": 1.0, "samples": [1.0, 2.0, 3.0]},
        "overhead": {"ratio": 1.1, "low": 1.0, "high": 1.2},
    }
    return Cell.of(values | changes)


@pytest.fixture
def file(tmp_path):
    made = Store(tmp_path / "compare.jsonl")
    made.start([MACHINE], RUN)
    return made


def test_a_cell_has_the_documented_keys():
    assert set(cell().to_dict()) >= ISSUE
    assert set(cell().to_dict()["latency_ms"]) == {"median", "min", "samples", "processes"}


def test_the_first_lines_are_the_run_and_the_machine_and_every_other_a_cell(file):
    file.append([cell("se"), cell("eca")])
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert lines[:2] == [{"run": RUN}, {"machine": MACHINE}]
    assert [line["module"] for line in lines[2:]] == ["se", "eca"]


def test_cells_are_read_back_as_they_were_and_the_last_of_a_kind_counts(file):
    file.append([cell("se"), cell("eca", status="oom", latency_ms=None, overhead=None, message="no memory")])
    newer = cell("se", setup_s=3.0)
    file.append([newer])
    assert list(file.read().values()) == [
        newer,
        cell("eca", status="oom", latency_ms=None, overhead=None, message="no memory"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"code": "0.1.0+def"},
        {"runtime": "openvino"},
        {"deployed": True},
        {"size": 32},
        {"protocol": "paper"},
        {"machine": "another"},
    ],
)
def test_what_was_measured_otherwise_is_another_cell(file, other):
    file.append([cell(), cell(**other)])
    assert len(file.read()) == 2


@pytest.mark.parametrize(
    "broken",
    [
        '{"model": "resn',
        "",
        "null",
        "17",
        '["a list"]',
        '{"model": "resnet50"}',
        json.dumps(cell().to_dict() | {"latency_ms": None}),
        json.dumps(cell().to_dict() | {"latency_ms": {"median": 1.0}}),
        json.dumps(cell().to_dict() | {"model": ["unhashable"]}),
        json.dumps(cell().to_dict() | {"status": "fine"}),
        json.dumps(cell().to_dict() | {"overhead": {"ratio": "large"}}),
        "\udcff not even text",
    ],
)
def test_a_broken_line_is_named_and_skipped_and_nothing_else_is_lost(file, capsys, broken):
    file.append([cell("se")])
    with file.path.open("ab") as stream:
        stream.write(broken.encode(errors="surrogateescape") + b"\n")
    file.append([cell("eca")])
    assert [one.module for one in file.read().values()] == ["se", "eca"]
    stderr = capsys.readouterr().err
    assert f"{file.path}:4: broken line skipped" in stderr
    assert stderr.count("\n") == 1


def test_a_broken_machine_line_loses_no_cell(file, capsys):
    file.append([cell()])
    file.path.write_text(file.path.read_text().replace('{"machine"', "{machine"))
    assert list(file.read().values()) == [cell()]
    assert f"{file.path}:2:" in capsys.readouterr().err


def test_a_line_that_was_cut_off_by_a_kill_does_not_swallow_the_next(file, capsys):
    file.append([cell("se"), cell("eca")])
    file.path.write_bytes(file.path.read_bytes()[:-20])
    file.start([MACHINE], RUN, resume=True)
    file.append([cell("srm")])
    assert [one.module for one in file.read().values()] == ["se", "srm"]
    assert f"{file.path}:4:" in capsys.readouterr().err


def test_starting_anew_forgets_what_was_there(file):
    file.append([cell()])
    file.start([MACHINE], RUN, overwrite=True)
    assert file.read() == {}


def test_a_file_that_is_not_there_has_no_cells(tmp_path):
    assert Store(tmp_path / "none.jsonl").read() == {}


def test_a_place_that_cannot_be_written_to_is_an_error_of_one_line(tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(RecalibError, match=r"cannot write '.*/out/compare\.jsonl'"):
        Store(tmp_path / "out" / "compare.jsonl").start([MACHINE], RUN)


def test_the_same_machine_has_the_same_fingerprint_and_another_has_another():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(MACHINE) != fingerprint(MACHINE | {"threads": 1})


def test_cells_that_are_there_are_neither_lost_nor_mixed_without_a_word(file):
    file.append([cell("se"), cell("eca")])
    before = file.path.read_bytes()
    with pytest.raises(RecalibError, match=r"holds 2 measured cells; --resume keeps them .* --overwrite forgets them"):
        file.start([MACHINE], RUN)
    assert file.path.read_bytes() == before
    assert list(file.start([MACHINE], RUN, resume=True)) == [cell("se").key, cell("eca").key]
    assert len(file.read()) == 2


def test_a_field_of_a_later_version_is_passed_over():
    assert Cell.of(cell().to_dict() | {"unheard_of": 1}) == cell()


def test_the_fastest_form_is_that_of_the_protocols_own_figure():
    quick_once = {"median": 3.0, "min": 1.0, "samples": [1.0, 3.0, 3.0]}
    steady = {"median": 2.0, "min": 2.0, "samples": [2.0, 2.0, 2.0]}
    for protocol, expected in (("clean", False), ("paper", True)):
        forms = [cell("baseline", protocol=protocol, deployed=form, latency_ms=ms)
                 for form, ms in ((True, quick_once), (False, steady))]  # fmt: skip
        assert fastest(forms).deployed is expected
        assert [one.deployed for one in fastest_forms(forms)] == [expected]
