"""Machines are told apart by what was measured on them, and named so that people can."""

import json
from pathlib import Path

from recalib.measure.cells import fingerprint
from recalib.measure.machines import named, together
from recalib.measure.store import read_results

RESULTS = Path(__file__).parents[2] / "results"
ONE = {"device": "Example CPU", "threads": 2, "versions": {"torch": "2.15"}, "precision": "fp32", "protocol": "clean"}
CELL = {"model": "resnet18", "module": "eca", "runtime": "eager", "deployed": True, "size": 224, "batch": 1,
        "precision": "fp32", "status": "oom", "latency_ms": None, "overhead": None, "protocol": "clean"}  # fmt: skip


def test_precision_and_protocol_are_no_other_machine():
    names, machines = named({"a": ONE, "b": ONE | {"precision": "int8", "protocol": "paper"}})
    assert names == {"a": "Example CPU, 2 threads", "b": "Example CPU, 2 threads"}
    assert machines["Example CPU, 2 threads"]["precision"] == "fp32, int8"


def test_a_package_that_came_later_is_no_other_machine_but_another_version_is():
    later = ONE | {"versions": {"torch": "2.15", "nncf": "3.4"}}
    other = ONE | {"versions": {"torch": "2.14", "nncf": "3.4"}}
    names, machines = named({"a": ONE, "b": later, "c": other})
    assert list(names.values()) == ["Example CPU, 2 threads"] * 2 + ["Example CPU, 2 threads (2)"]
    assert machines["Example CPU, 2 threads"]["versions"] == {"torch": "2.15", "nncf": "3.4"}


def test_a_machine_that_nothing_describes_is_one_of_its_own():
    assert named({"a": ONE, "b": {}, "c": {}})[0] == {"a": "Example CPU, 2 threads", "b": "b", "c": "c"}


def test_of_several_machines_one_description_says_what_is_shared_and_what_is_not():
    whole = together(named({"a": ONE, "b": ONE | {"threads": 1}})[1])
    assert whole["device"] == "Example CPU, 2 threads; Example CPU, 1 threads"
    assert whole["precision"] == "fp32"
    assert whole["Example CPU, 1 threads"] == {"threads": 1}


def test_cells_of_files_carry_the_name_of_their_machine_and_their_json_can_be_read_again(tmp_path):
    machines = [ONE, ONE | {"threads": 1}]
    for number, machine in enumerate(machines):
        lines = [{"machine": machine}, CELL | {"machine": fingerprint(machine)}]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_results([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    assert [cell.machine for cell in found.cells] == ["Example CPU, 2 threads", "Example CPU, 1 threads"]
    again = tmp_path / "again.json"
    again.write_text(json.dumps({"machines": found.machines, "cells": [cell.to_dict() for cell in found.cells]}))
    assert read_results([again]) == found


def test_what_was_measured_twice_here_counts_once_the_last_time():
    both = read_results([RESULTS / "latency", RESULTS / "latency_again"])
    first, last = (read_results([RESULTS / name]).cells for name in ("latency", "latency_again"))
    assert len(both.machines) == 1
    assert len(both.cells) == len(first)
    assert [cell.latency_ms for cell in both.cells if cell.key == last[0].key] == [last[0].latency_ms]
