"""Which optional columns a file without a header lacks: cases by hand, and every choice tried for comparison."""
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.dataset_file import parse_dataset
from feature_specs.errors import DataError
from preprocessing.reading.alignment import alignments
from preprocessing.reading.columns import roles_of
from preprocessing.reading.readers import read_frames

YAML = """
name: log
files: {header: false, columns: [key, user, age, click, seconds, city, price, w]}
features:
  user:  {type: categorical}
  age:   {type: numeric}
  city:  {type: categorical}
  price: {type: numeric}
tasks:
  click:   {type: binary}
  seconds: {type: regression}
weight: w
row_key: key
"""
LOG = parse_dataset(YAML, "log.yaml").definition
COLUMNS = list(LOG.files.columns)
ROWS = [["k%d" % row, "u%d" % (row % 3), str(20 + row), str(row % 2), "%d.5" % row, ["Rome", "Oslo"][row % 2],
         "%.2f" % row, "1.5"] for row in range(20)]
FEATURES = [feature.name for feature in LOG.features]


def without(absent, rows=ROWS):
    places = [place for place, name in enumerate(COLUMNS) if name not in absent]
    return [[row[place] for place in places] for row in rows]


def found(absent, features=FEATURES, rows=ROWS):
    return alignments(LOG, roles_of(LOG, features), without(absent, rows))


@pytest.mark.parametrize("absent", [
    ["click"], ["w"], ["seconds"], ["click", "seconds"], ["click", "seconds", "w"], ["key", "click", "seconds", "w"]])
def test_what_is_absent_shows_in_the_values(absent):
    """At least where what is read lies: that of click and seconds one is absent does not tell which one."""
    roles = roles_of(LOG, FEATURES)
    names, = found(absent)
    expected = [name for name in COLUMNS if name not in absent]
    assert {name: names.index(name) for name in roles.columns if name in names} == {
        name: expected.index(name) for name in roles.columns if name in expected}


def test_labels_that_are_no_labels_do_not_mislead():
    rows = [row[:3] + ["whatever", "soon"] + row[5:7] + ["heavy"] for row in ROWS]
    names, = found(["key"], rows=rows)
    assert names == COLUMNS[1:]


def test_a_file_with_what_is_read_and_no_more_is_the_usual_one():
    """Not one without the key and with a label, which fits these values too."""
    rows = [["1", "0", "20", "1", "3", "1", "2", "1"]] * 3
    assert found(["click", "seconds", "w"], rows=rows) == [["key", "user", "age", "city", "price"]]
    assert len(found(["click", "w"], rows=rows)) == 2


def test_what_cannot_be_told_is_not_guessed(tmp_path):
    """Texts alone: whether key or group is absent makes another row of the same cells."""
    definition = parse_dataset(YAML.replace("age:   {type: numeric}", "age: {type: categorical}").replace(
        "columns: [key, user, age, click", "columns: [key, user, age, side, click").replace(
            "row_key: key", "row_key: key\ngroup: side"), "log.yaml").definition
    rows = [row[:3] + ["left"] + row[3:5] for row in ROWS]
    roles = roles_of(definition, ["user", "age"])
    assert len(alignments(definition, roles, [row[1:] for row in rows])) == 2
    path = tmp_path / "f.csv"
    path.write_text("".join(",".join(row) + "\n" for row in [row[1:] for row in rows]))
    with pytest.raises(DataError, match="5 fields, expected 9: which of key, side, click, seconds, .* cannot be told"):
        list(read_frames(definition, [str(path)], features=["user", "age"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["u1", "3", "0", "x", ""]), st.sampled_from(["1", "7", "y"]),
                          st.sampled_from(["0", "1", "z"]), st.sampled_from(["2.5", "q", "1"]),
                          st.sampled_from(["1", "a", ""]), st.sampled_from(["4", "b"])), min_size=1, max_size=3),
       st.sets(st.sampled_from(FEATURES), min_size=1))
def test_the_choice_is_the_best_of_all(rows, features):
    """Against every combination of absent columns, judged one by one."""
    roles, fields = roles_of(LOG, features), len(rows[0])
    optional = [name for name in COLUMNS if name in roles.optional]
    judged = []
    for absent in itertools.combinations(optional, len(COLUMNS) - fields):
        names = [name for name in COLUMNS if name not in absent]
        read = labels = 0
        for row in rows:
            for name, cell in zip(names, row):
                is_number = cell.replace(".", "", 1).isdigit() or cell == ""
                if name in roles.columns:
                    read += name in roles.numbers and not is_number
                elif name == "click":
                    labels += cell not in ("0", "1", "")
                elif name in ("age", "price", "seconds", "w"):
                    labels += not is_number
        judged.append(((read, labels), tuple(names.index(name) if name in names else -1 for name in roles.columns)))
    if not judged:
        return
    least = min(cost for cost, _ in judged)
    best = {places for cost, places in judged if cost == least}
    got = alignments(LOG, roles, rows)
    usual = [name for name in COLUMNS if name in roles.columns]
    if len(usual) == fields and tuple(map(usual.index, roles.columns)) in best:
        assert got == [usual]
        return
    assert (len(got) > 1) == (len(best) > 1)
    for names in got:
        assert tuple(names.index(name) if name in names else -1 for name in roles.columns) in best
