import gzip
import json

import numpy as np
import pytest

from benchmarks import trees
from feature_specs.census import CENSUS
from preprocessing.sample_data import write_sample


def test_trees_learn_the_sample_and_unknown_categories_are_missing(tmp_path, capsys):
    paths = write_sample(str(tmp_path), 3000, 1000, 1)
    (train, test), categorical = trees.columns(*paths)
    assert train[0].shape == (3000, 39) and test[1].shape == (1000, 2) and sum(categorical) == 29
    with gzip.open(paths[1], "rt") as stream:
        text = stream.read().splitlines()
    cells = text[0].split(",")
    place = CENSUS.columns.index(CENSUS.sparse_columns[3])
    cells[place] = " never seen"
    with gzip.open(paths[1], "wt") as stream:
        stream.write("\n".join([",".join(cells)] + text[1:]) + "\n")
    (_, changed), _ = trees.columns(*paths)
    assert np.argwhere(np.isnan(changed[0]) & ~np.isnan(test[0])).tolist() == [[0, 3]]
    assert trees.main(["--source", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["auc_income"] > 0.85 and found["auc_marital"] > 0.95


@pytest.mark.parametrize("source", ["", "nowhere"])
def test_a_missing_file_is_one_line(source, capsys):
    assert trees.main(["--source", source]) == 2
    assert "error: census-income.data is not in" in capsys.readouterr().err
