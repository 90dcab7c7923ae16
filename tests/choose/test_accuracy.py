"""Accuracies of a user's own runs: which are taken, and how sure they are."""

import json
import math

import pytest

from recalib.choose.accuracy import own_accuracies, sampling_error
from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.errors import RecalibError


@pytest.fixture
def write_run(tmp_path):
    def write(name, top1, images=None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        recipe = ClassificationRecipe(model="resnet20", epochs=1, **changes)
        (folder / "config.json").write_text(json.dumps(ClassificationJob(recipe=recipe, preset="mine").config()))
        row = {"step": 1, "epoch": 0, "top1": top1} | ({} if images is None else {"images": images})
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return folder

    return write


def test_a_run_or_the_folder_that_holds_it_and_its_siblings_gives_the_same_accuracies(write_run, tmp_path):
    one = write_run("se", 90.0, attention="se")
    write_run("plain", 89.0)
    found = own_accuracies(one)
    assert {key: accuracy.top1 for key, accuracy in found.items()} == {
        ("resnet20", "se"): 90.0,
        ("resnet20", "baseline"): 89.0,
    }
    assert own_accuracies(tmp_path) == found


def test_runs_of_several_recipes_in_a_folder_are_not_joined(write_run, tmp_path):
    one = write_run("se", 90.0, attention="se")
    write_run("other", 89.0, lr=0.5)
    with pytest.raises(RecalibError, match="holds runs of several recipes; name one run, such as"):
        own_accuracies(tmp_path)
    assert list(own_accuracies(one)) == [("resnet20", "se")]


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(RecalibError, match="is finished"):
        own_accuracies(tmp_path)


def test_the_test_set_is_as_large_as_the_run_recorded_whatever_its_data_set_usually_has(write_run, tmp_path):
    (found,) = own_accuracies(write_run("few", 80.0, images=30)).values()
    assert found.error == pytest.approx(sampling_error(80.0, 30))


def test_a_run_that_recorded_no_number_was_evaluated_on_its_limit_or_on_all_of_its_data_set(write_run):
    (limited,) = own_accuracies(write_run("limited", 80.0, limit=512)).values()
    assert limited.error == pytest.approx(sampling_error(80.0, 512))
    folder = write_run("whole", 80.0, lr=0.3)
    (whole,) = own_accuracies(folder).values()
    assert whole.error == pytest.approx(sampling_error(80.0, 10_000))


def test_a_folder_of_images_that_nobody_counted_has_an_accuracy_without_a_known_uncertainty(write_run):
    (found,) = own_accuracies(write_run("mine", 80.0, dataset="imagenet")).values()
    assert math.isinf(found.error)


def test_two_seeds_are_as_uncertain_as_students_t_says(write_run, tmp_path):
    for seed, top1 in enumerate([87.0, 91.0]):
        write_run(f"se{seed}", top1, attention="se", seed=seed)
    (found,) = own_accuracies(tmp_path).values()
    assert found.error == pytest.approx(12.706 * 8**0.5 / 2**0.5, rel=1e-3)  # not 1.96 deviations
