import json

import pytest

from feature_specs.census import CENSUS
from feature_specs.dataset import DatasetDefinition, TaskDefinition, differences
from feature_specs.errors import ConfigError
from tests.small_data import SMALL


def test_census_has_the_published_columns():
    assert len(CENSUS.columns) == 42
    assert (CENSUS.num_sparse, CENSUS.num_dense, CENSUS.num_tasks) == (29, 11, 2)
    assert CENSUS.columns[24] == "instance_weight" and CENSUS.columns[41] == "income_50k"
    used = set(CENSUS.sparse_columns) | set(CENSUS.dense_columns) | {task.label_column for task in CENSUS.tasks}
    assert used == set(CENSUS.columns)


@pytest.mark.parametrize("dataset", [CENSUS, SMALL])
def test_a_definition_survives_json(dataset):
    assert DatasetDefinition.from_dict(json.loads(json.dumps(dataset.to_dict()))) == dataset


@pytest.mark.parametrize("changes, message", [
    ({"columns": ["a", "a"]}, "column given twice: a"),
    ({"sparse_columns": ["a", "q"]}, "sparse columns that the file does not have: q"),
    ({"dense_columns": ["x", "a"]}, "both sparse and dense: a"),
    ({"dense_columns": ["label_buy"]}, "a label cannot be a feature: label_buy"),
    ({"sparse_columns": []}, "no sparse column given"),
    ({"tasks": []}, "no task given"),
    ({"table_name": "my table"}, "use letters, digits and underscores"),
    ({"columns": "abc"}, "columns must be a list"),
    ({"columns": [1]}, "columns must hold texts only"),
    ({"tasks": [3]}, "a task must be an object"),
    ({"surprise": 1}, "unknown keys \\['surprise'\\]"),
])
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        DatasetDefinition.from_dict(dict(SMALL.to_dict(), **changes))


def test_a_task_needs_its_positive_value_and_two_values():
    with pytest.raises(ConfigError, match="not among its label values"):
        TaskDefinition("t", "c", "maybe", ("yes", "no"))
    with pytest.raises(ConfigError, match="at least two"):
        TaskDefinition("t", "c", "yes", ("yes",))


def test_differences_name_the_field():
    changed = DatasetDefinition.from_dict(dict(SMALL.to_dict(), sparse_columns=["a", "c", "b"]))
    lines = differences(changed, SMALL)
    assert len(lines) == 1 and lines[0].startswith("sparse_columns: found ('a', 'c', 'b'), expected ('a', 'b', 'c')")
    assert not differences(SMALL, SMALL)
