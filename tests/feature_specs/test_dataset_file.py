"""Dataset files: what they mean, and what is said of what they get wrong."""
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.checks import build
from feature_specs.dataset import (
    CategoricalFeature,
    DatasetDefinition,
    NumericFeature,
    TableDefinition,
    TaskDefinition,
    differences,
)
from feature_specs.dataset_file import load_dataset, parse_dataset
from feature_specs.errors import ConfigError
from tests.support.rows import TOY, TOY_YAML

EXAMPLE = r"""
name: shop
files: {format: csv, header: true, separator: "\t", missing: ["", "\\N"]}
features:
  user_id: {type: categorical, encoding: hash, table: users}
  item_id: {type: categorical, min_count: 2, table: items}
  history: {type: categorical, separator: ",", max_length: 50, pooling: mean, vocabulary: item_id}
  tags:    {type: categorical, separator: "|", max_length: 20, pooling: sum, table: tags, keep: first}
  age:     {type: numeric, transform: log_standard, bins: 50, missing: mean}
  height:  {type: numeric, missing: 1.8}
tables:
  users: {dim: 16}
  items: {dim: 16, rows: 1_000_000}
  tags:  {dim: 8}
tasks:
  click: {type: binary, column: click, positive: ["1"], negative: any}
  buy:   {type: binary, column: buy, given: click}
  rate:  {type: binary, column: rated, where: click, positive: [yes, on], negative: [no]}
  watch: {type: regression, column: watch_seconds, transform: log}
weight: sample_weight
group: user_id
row_key: request_id
preset: shop.json
"""


def test_every_key_means_what_is_documented():
    found = parse_dataset(EXAMPLE, "shop.yaml").definition
    assert found.categorical == (
        CategoricalFeature("user_id", "user_id", "hash", table="users"),
        CategoricalFeature("item_id", "item_id", min_count=2, table="items"),
        CategoricalFeature("history", "history", vocabulary="item_id", table="items", separator=",", max_length=50),
        CategoricalFeature("tags", "tags", table="tags", separator="|", max_length=20, keep="first", pooling="sum"))
    assert found.numeric == (NumericFeature("age", "age", "log_standard", 50),
                             NumericFeature("height", "height", missing=1.8))
    # Bins are looked up in the default table, which needs no entry.
    assert found.tables == (TableDefinition("users", 16), TableDefinition("items", 16, 1000000),
                            TableDefinition("tags", 8),
                            TableDefinition("embeddings"))
    assert found.tasks == (
        TaskDefinition("click", "click", positive=("1",), negative=("any",)),
        TaskDefinition("buy", "buy", given="click"),
        TaskDefinition("rate", "rated", positive=("yes", "on"), negative=("no",), where="click"),
        TaskDefinition("watch", "watch_seconds", "regression", transform="log"))
    assert (found.files.separator, found.files.missing) == ("\t", ("", "\\N"))
    assert (found.weight, found.group, found.row_key, found.preset) == ("sample_weight", "user_id", "request_id",
                                                                        "shop.json")
    assert found.sparse_width == 72 and found.has_float_labels


def change(old, new, text=EXAMPLE):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("text, line, message", [
    (change("features:", "featurs:"), 4, "unknown key featurs; did you mean features"),
    (change("min_count", "mincount"), 6, "feature item_id \\(categorical\\): unknown key mincount; did you mean "
     "min_count"),
    (change("bins: 50", "max_length: 5"), 9, "feature age \\(numeric\\): unknown key max_length"),
    (change("keep: first", "dim: 8"), 8, "the dimension belongs to the table"),
    (change("given: click", "give: click"), 17, "task buy: unknown key give; did you mean given"),
    (change("separator: \"\\t\"", "seperator: \";\""), 3, "files: unknown key seperator; did you mean separator"),
    (change("  buy:   {type", "  click:   {type"), 17, "tasks: click is given twice \\(first on line 16\\)"),
    (change("  tags:  {dim: 8}", "  items: {dim: 8}"), 14, "tables: items is given twice"),
    (change("users: {dim: 16}", "users: {dim: 16, dim: 8}"), 12, "table users: dim is given twice"),
    (change("column: buy,", "column: age,"), 9, "feature age reads a label's column; a label cannot be a feature"),
    (change("given: click", "given: clack"), 17, "given 'clack' names no other binary task"),
    (change("positive: [\"1\"], negative: any", "given: buy"), 16, "given and where form a circle \\(buy, click\\)"),
    (change("given: click", "given: buy"), 17, "names no other binary task"),
    (change("where: click", "where: watch"), 18, "where 'watch' names no other binary task"),
    (change("negative: any", "transform: log"), 16, "transform goes with type regression only"),
    (change(", negative: any", ""), 16, "give both positive"),
    (change("negative: [no]", "negative: [yes]"), 18, "both positive and negative: yes"),
    (change("negative: [no]", "negative: no"), 18, "a list is expected, such as \\[no\\]"),
    (change("max_length: 20", "max_length: many"), 8, "max_length: a whole number is expected, found 'many'"),
    (change("max_length: 20, ", ""), 8, "a separator makes it a list; give max_length"),
    (change("bins: 50", "bins: 1"), 9, "bins 1; allowed: 0"),
    (change("pooling: sum", "pooling: max"), 8, "pooling 'max' is not known; choose from mean, sum"),
    (change("encoding: hash", "encoding: hashed"), 5, "encoding 'hashed' is not known"),
    (change("vocabulary: item_id", "vocabulary: item_id, table: tags"), 7, "must have its table"),
    (change("vocabulary: item_id", "vocabulary: nobody"), 7, "vocabulary nobody is not a feature"),
    (change("vocabulary: item_id", "vocabulary: item_ids"), 7, "of its own, did you mean item_id\\?"),
    (change("table: users", "table: user"), 5, "table user is not defined"),
    (change("type: categorical", "type: text"), 5, "type text is not known; choose from categorical, numeric"),
    (change("type: categorical, ", ""), 5, "type is missing"),
    (change("header: true", "header: maybe"), 3, "true or false"),
    (change("header: true", "header: false"), 3, "header: false with columns"),
    (change("name: shop\n", ""), 2, "name is missing"),
    (change("  user_id: {type", "  '': {type"), 2, "feature name '': use letters"),
    (change("weight: sample_weight", "weight: [a]"), 20, "one text is expected"),
    ("a: [", 1, "is not valid YAML"), ("- a", 1, "keys with values are expected"),
])
def test_complaints_name_the_line_and_the_remedy(text, line, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_dataset(text, "my.yaml")
    assert str(caught.value).startswith("my.yaml line %d" % line) and "\n" not in str(caught.value)


def test_what_is_wrong_with_a_shared_value_is_said_of_its_owner():
    text = ("name: n\nfeatures:\n  b: {type: categorical, vocabulary: a}\n  a: {type: categorical, encoding: wrong}\n"
            "tasks:\n  t: {type: binary}\n")
    with pytest.raises(ConfigError, match="line 4: feature a: encoding 'wrong' is not known"):
        parse_dataset(text, "my.yaml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    (tmp_path / "empty.yaml").write_bytes(b"")
    for name, message in (("nowhere.yaml", "cannot be read: No such file.*census, shop"), ("latin.yaml", "not UTF-8"),
                          ("empty.yaml", "is empty; describe FILE")):
        with pytest.raises(ConfigError, match=message):
            load_dataset(str(tmp_path / name))


def test_the_built_in_definitions():
    census = load_dataset("census").definition
    assert len(census.files.columns) == 42 and (len(census.categorical), len(census.numeric), len(census.tasks)) == (29,
                                                                                                                 11, 2)
    assert census.files.columns[24] == "instance_weight" and census.files.columns[41] == "income_50k"
    assert set(census.columns) == set(census.files.columns) and census.preset == "census"
    assert census.task_names == ("income", "marital") and census.task("marital").positive == ("Never married",)
    assert census.categorical[0].name == "class_worker" and census.numeric[0].name == "age"
    shop = load_dataset("shop").definition
    assert (len(shop.categorical), len(shop.numeric), len(shop.tasks)) == (20, 5, 3)


@pytest.mark.parametrize("definition", [TOY, load_dataset("census").definition, load_dataset("shop").definition,
                                        parse_dataset(EXAMPLE, "x").definition])
def test_a_definition_survives_json(definition):
    assert build(DatasetDefinition, json.loads(json.dumps(definition.to_dict()))) == definition
    assert not differences(definition, definition)


def test_places_of_columns():
    places = parse_dataset(TOY_YAML, "my.yaml").places
    assert places["years"] == "my.yaml line 11" and places["seconds"] == "my.yaml line 15"
    assert places["key"].endswith("18")


@settings(max_examples=150)
@given(st.integers(0, len(EXAMPLE)), st.integers(0, 12), st.text(alphabet="abn:{}[],\n\"' -1#&*!%@\0", max_size=4))
def test_any_change_gives_a_definition_or_one_line(start, length, text):
    try:
        parse_dataset(EXAMPLE[:start] + text + EXAMPLE[start + length:], "my.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("old, new, lines", [
    ("min_count: 2", "min_count: 3", ["feature item: min_count: 3 instead of 2"]),
    ("  city: {type: categorical}\n", "", ["feature city is missing"]),
    ("  city: {type: categorical}\n", "  city: {type: categorical}\n  town: {type: categorical, column: city}\n",
     ["feature town is new"]),
    ("city: {type: categorical}", "city: {type: numeric}", ["feature city: another type"]),
    ("positive: [yes]", "positive: [yes, on]", ["task buy: positive: yes, on instead of yes"]),
    (", where: click}", "}", ["task watch: where: none instead of click"]),
    ("missing: [\"\", \"NULL\"]", "missing: [\"\"]", ["files: missing: none instead of none, NULL"]),
    ("weight: w\n", "", ["weight: none instead of w"]), ("name: toy", "name: two", ["name: two instead of toy"])])
def test_differences_are_told_in_the_words_of_the_file(old, new, lines):
    changed = parse_dataset(change(old, new, TOY_YAML), "x").definition
    assert differences(changed, TOY) == lines


def test_a_list_of_a_text_file_needs_a_separator():
    with pytest.raises(ConfigError, match="my.yaml line 8: feature tags: max_length makes it a list; give separator"):
        parse_dataset(change('separator: "|", ', "", TOY_YAML), "my.yaml")
    parse_dataset(change('separator: "|", ', "", TOY_YAML).replace('format: csv, header: true, separator: "\\t", ',
                                                                   "format: parquet, "), "my.yaml")


@pytest.mark.parametrize("old, new, line, message", [
    ("row_key: key", "row_key: click", 13, "task click: predictions would have two columns click"),
    ("  watch: {type", "  buy_given_click: {type", 14, "task buy: predictions would have two columns buy_given_click"),
    ("  price: {type: numeric}", "  dense_feature: {type: numeric, column: price}", 10,
     "feature dense_feature: the name is that of an input of exported models; give another one and column: price"),
    ("weight: w", "weight: click", 2, "weight: click is a label's column"),
    ("group: user", "group: bought", 2, "group: bought is a label's column"),
    ("positive: [yes]", "positive: []", 14, "task buy: positive: give at least one text"),
    ("{type: categorical, min_count: 2}", "{<<: {type: categorical}, min_count: 2}", 6, "merge keys .<<. are not")])
def test_names_that_clash_later_are_refused_at_once(old, new, line, message):
    with pytest.raises(ConfigError, match="my.yaml line %d: .*%s" % (line, message)):
        parse_dataset(change(old, new, TOY_YAML), "my.yaml")
