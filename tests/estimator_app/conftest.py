"""The small trainings that tests of the commands begin with: made once, copied by who changes them."""
import os
import shutil

import pytest

from tests.support import runs
from tests.support.shared import made_once

KEEP = ("--keep_checkpoint_max", "2")


class Place:
    """A directory with prepared data in ``data`` and, where it was copied with a run, a model directory ``model``."""

    def __init__(self, root):
        self.root = root
        self.model, self.data = os.path.join(str(root), "model"), os.path.join(str(root), "data")

    def train(self, *flags, **options):
        """Trains in a process of its own."""
        return runs.run(self.root, *(runs.TRAIN + KEEP + flags), **options)

    def start(self, *flags, **options):
        """Starts a training in a process of its own."""
        return runs.Started(self.root, runs.TRAIN + KEEP + flags, **options)

    def command(self, *arguments, **options):
        """Runs a command that needs TensorFlow in a process of its own."""
        return runs.run(self.root, *arguments, **options)

    def here(self, *arguments):
        """Runs a command that needs no TensorFlow in this process."""
        return runs.run_here(self.root, *arguments)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted training of 30 steps; not to be changed."""
    def make(folder):
        runs.prepare_small(folder)
        Place(folder).train().ok()

    return Place(made_once(tmp_path_factory, "whole", make))


@pytest.fixture
def trained(whole, tmp_path):
    """A copy of the uninterrupted training."""
    for name in ("data", "model"):
        shutil.copytree(os.path.join(str(whole.root), name), str(tmp_path / name))
    return Place(tmp_path)


@pytest.fixture
def fresh(whole, tmp_path):
    """Its data, and no model yet."""
    shutil.copytree(whole.data, str(tmp_path / "data"))
    return Place(tmp_path)
