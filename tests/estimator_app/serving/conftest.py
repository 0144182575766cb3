"""One prepared dataset, one training and one export for all tests of serving."""
import os
import shutil

import pytest

from estimator_app.serving import export
from estimator_app.serving.weights import read_model
from feature_specs.manifest import read_manifest
from tests.support import rows, runs, served
from tests.support.shared import made_once


class Place:
    """``data``, ``model`` and the raw files below a folder."""

    def __init__(self, root):
        self.root = str(root)
        self.data, self.model = (os.path.join(self.root, name) for name in ("data", "model"))
        self.raw = os.path.join(self.root, "test.tsv")

    def trained(self):
        return read_model(self.model, "latest")


class Exported:
    """A version, and what the Estimator predicted for the rows of its check."""

    def __init__(self, path, expected):
        self.path, self.expected = path, expected
        self.client = served.Client.of_saved_model(path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Prepared data without a model; not to be changed."""
    return Place(made_once(tmp_path_factory, "served", served.prepare_served))


@pytest.fixture(scope="session")
def manifest(prepared):
    return read_manifest(prepared.data)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A trained model; not to be changed."""
    def make(folder):
        # Whole paths: the data is found from wherever a test exports.
        served.prepare_served(folder)
        place = Place(folder)
        runs.run(place.root, "train", "--data_dir", place.data, "--model_dir", place.model, *served.FLAGS).ok()

    return Place(made_once(tmp_path_factory, "served_model", make))


@pytest.fixture
def own(place, tmp_path):
    """A copy that a test may change."""
    for name in ("data", "model"):
        shutil.copytree(os.path.join(place.root, name), str(tmp_path / name))
    shutil.copy(place.raw, str(tmp_path))
    settings = os.path.join(str(tmp_path), "model", "args.json")
    rows.write(settings, rows.read_bytes(settings).replace(place.root.encode(), str(tmp_path).encode()))
    return Place(tmp_path)


@pytest.fixture(scope="session")
def exported(place, tmp_path_factory):
    """An export with all of the test split as rows of the check."""
    seen = []
    check_rows = export._check_rows

    def spy(*arguments):
        seen.append(check_rows(*arguments))
        return seen[-1]

    export._check_rows = spy
    try:
        path = export.export_model(export.ExportRequest(place.model, export_dir=str(tmp_path_factory.mktemp("export"))))
    finally:
        export._check_rows = check_rows
    return Exported(path, dict(seen[0].expected))
