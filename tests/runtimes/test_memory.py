"""What is left of the memory is known before it is too late."""

import pytest
import torch

from recalib.runtimes.memory import _of_container, available_bytes, is_out_of_memory


def test_a_running_process_has_some_memory_left_and_not_an_exbibyte():
    assert 2**20 < available_bytes(torch.device("cpu")) < 2**60


def test_a_containers_limit_counts(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert _of_container(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert _of_container(tmp_path) is None
    assert _of_container(tmp_path / "nowhere") is None


def test_pytorchs_own_words_for_no_memory_are_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_other_errors_are_told_from_it(error, expected):
    assert is_out_of_memory(error) == expected
