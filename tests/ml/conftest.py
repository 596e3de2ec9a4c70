from pathlib import Path

import pytest

from tests.support.checkpoints import random_weights, write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DnCNN of random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "random.pth", random_weights())
