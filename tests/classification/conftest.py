import pytest
from examples.kills import forkserver
from tests.jobs import classification_job


@pytest.fixture
def make_job(cifar, tmp_path):
    """A job of seconds: an eight-layer network on a few images."""
    return lambda name="run", **changes: classification_job(cifar, tmp_path, name, **changes)


@pytest.fixture(scope="session")
def processes():
    """Processes that start with the packages imported, and can be killed for real."""
    return forkserver()
