import pytest
from tests.jobs import classification_job


@pytest.fixture
def make_job(cifar, tmp_path):
    """A job of seconds."""
    return lambda name="run", **changes: classification_job(cifar, tmp_path, name, **changes)
