"""Drafts of dataset files: they must be right enough to prepare with."""
import argparse
import decimal
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_specs.dataset_file import load_dataset, parse_dataset
from feature_specs.errors import DataError, UserError
from feature_specs.manifest import RowSplit
from preprocessing.drafting import describe
from preprocessing.drafting.examine import examine
from preprocessing.drafting.look import read
from preprocessing.pipeline import Preparation, prepare
from preprocessing.samples.sample import write_sample
from tests.support.rows import COLUMNS, text_of, toy_rows, write


def run(*arguments):
    parser = argparse.ArgumentParser()
    describe.add_arguments(parser)
    describe.run(parser.parse_args([str(argument) for argument in arguments]))


def prepared(tmp_path, path, *more):
    run(path, "--output", tmp_path / "draft.yaml", *more)
    definition = load_dataset(str(tmp_path / "draft.yaml")).definition
    prepare(Preparation(definition, (str(path),), (), str(tmp_path / "out"), RowSplit(0.2)))
    return definition


def kinds(definition):
    return ({feature.name: (feature.encoding, feature.separator, feature.vocabulary)
             for feature in definition.categorical}, [feature.name for feature in definition.numeric])


def test_a_list_that_shares_the_values_of_a_vocabulary_is_not_said_to_be_hashed(tmp_path):
    rows = [["%d" % (number % 19000), "i%d|i%d" % (number % 19000, number % 30000), "%d" % (number % 3 == 0)]
            for number in range(60000)]
    path = write(tmp_path / "log.csv", text_of([["i" + row[0]] + row[1:] for row in rows],
                                               ["item_id", "history", "click"], ","))
    run(path, "--output", tmp_path / "log.yaml")
    drafted = (tmp_path / "log.yaml").read_text()
    line = next(line for line in drafted.splitlines() if line.strip().startswith("history:"))
    assert "vocabulary: item_id" in line and "shares the values of item_id" in line and "hash" not in line, line


def test_the_shops_log(tmp_path, capsys):
    path = write_sample("shop", str(tmp_path), 4000, 10, 1)[0]  # Its histories hold values of item_id.
    definition = prepared(tmp_path, path, "--rows", 3000)
    printed = capsys.readouterr().out
    assert "the first 3000 rows, 29 columns" in printed and "lists of up to 30 values" in printed
    categorical, numeric = kinds(definition)
    assert categorical["tags"] == ("vocabulary", "|", "") and categorical["history"][1:] == (",", "item_id")
    assert len(categorical) == 20 and len(numeric) == 5 and definition.files.separator == "\t"
    click, buy, amount = definition.tasks
    assert (buy.given, amount.where, amount.type, amount.transform) == ("click", "buy", "regression", "log")
    assert (definition.group, definition.row_key) == ("user_id", "request_id")


def test_the_census_without_a_header(tmp_path):
    definition = prepared(tmp_path, write_sample("census", str(tmp_path), 3000, 10, 1)[0])
    assert not definition.files.header and len(definition.files.columns) == 42
    (task,) = definition.tasks
    assert (task.column, task.positive, task.negative) == ("c42", ("50000+.",), ("- 50000.",))
    categorical, numeric = kinds(definition)
    assert "c2" in categorical and {"c1", "c25"} <= set(numeric) and len(categorical) + len(numeric) == 41


def test_parquet_with_lists(tmp_path):
    rows = toy_rows(400)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}
    table = {name: pa.array(columns[name]) for name in ("key", "user", "item", "city", "click")}
    table["seen"] = pa.array([text.split(",") if text else None for text in columns["seen"]])
    table["price"] = pa.array([float(text) if text else None for text in columns["price"]])
    pa.parquet.write_table(pa.table(table), str(tmp_path / "f.parquet"))
    definition = prepared(tmp_path, tmp_path / "f.parquet")
    assert definition.files.format == "parquet"
    assert definition.categorical[[feature.name for feature in definition.categorical].index("seen")].max_length == 5


@pytest.mark.parametrize("text, separator, header", [
    ("a;b;y\n1.5;x;1\n2.5;y;0\n", ";", True), ("1.5|x|1\n2.5|z|0\n", "|", False),
    ("id,name,label\n1,\"a,b\",0\n2,c,1\n3,\"d\",1\n", ",", True)])
def test_separators_and_headers(tmp_path, text, separator, header):
    run(write(tmp_path / "my-file.csv", text), "--output", tmp_path / "d.yaml")
    definition = load_dataset(str(tmp_path / "d.yaml")).definition
    assert (definition.files.separator, definition.files.header, definition.name) == (separator, header, "my_file")


def test_words_for_missing_numbers(tmp_path):
    path = write(tmp_path / "d.csv", "click,price,country,size\n" + "".join(
        "%d,%s,%s,%s\n" % (n % 2, "n/a" if n % 3 else "%.2f" % (n + 0.5), "NA" if n % 2 else "DE",
                           "-" if n % 5 else "%.2f" % (n * 1.5 + 0.25)) for n in range(160)))
    definition = prepared(tmp_path, path)
    assert definition.files.missing == ("", "n/a", "-")
    assert {item.name for item in definition.numeric} == {"price", "size"}


def test_files_of_two_formats(tmp_path):
    first = write(tmp_path / "a.csv", "click,x\n1,2\n0,3\n")
    second = str(tmp_path / "b.parquet")
    pa.parquet.write_table(pa.table({"click": [1, 0], "x": [1, 2]}), second)
    with pytest.raises(DataError, match="b.parquet is a Parquet file and .*a.csv is not"):
        describe.read([first, second], 100)


def test_odd_names_and_missing_texts(tmp_path):
    rows = [[str(number % 7 + number / 8), "\\N" if number % 3 else "v%d" % (number % 5), str(number % 2)]
            for number in range(60)]
    definition = prepared(tmp_path, write(tmp_path / "1.csv", text_of(rows, ["Price ($)", "2nd", "y"], ",")))
    assert definition.files.missing == ("", "\\N") and definition.name == "data_1"
    assert [feature.column for feature in definition.features] == ["2nd", "Price ($)"]


@pytest.mark.parametrize("text, message", [
    ("", "is empty"), ("a,b\n1.5,2.5\n3.5,4.5\n7.5,2.25\n", "no column looks like a label")])
def test_what_cannot_be_drafted(tmp_path, text, message):
    path = write(tmp_path / "f.csv", text)
    with pytest.raises(UserError, match=message):
        run(path, "--output", tmp_path / "d.yaml")
    with pytest.raises(UserError, match="exists and is not replaced"):
        run(path, "--output", path)
    with pytest.raises(UserError, match="no such file"):
        run(tmp_path / "nowhere.csv")
    assert sorted(os.listdir(str(tmp_path))) == ["f.csv"]


def test_a_time_and_a_rating(tmp_path):
    rows = [["f%d" % (number % 9), "u%d" % (number % 60), str(number % 5 + 1), str(1600000000 + number)]
            for number in range(300)]
    definition = prepared(tmp_path, write(tmp_path / "r.csv", text_of(rows, ["film", "user", "rating", "time"], ",")))
    (task,) = definition.tasks
    assert (task.name, task.type, task.transform) == ("rating", "regression", "none")
    assert [feature.name for feature in definition.features] == ["film", "user"]
    text = (tmp_path / "draft.yaml").read_text()
    assert "# time is left out: a time: --split_by_time time" in text
    # An AUC within groups needs a binary task.
    assert "group: user  # named like the owner of a row; of use with a binary task" in text


def test_what_is_known_only_afterwards_and_a_rows_weight_are_no_features(tmp_path):
    random = np.random.RandomState(1)
    rows = []
    for _ in range(400):
        click = random.randint(2)
        rows.append([str(random.randint(30)), "%.3f" % random.rand(), str(click), "%.2f" % (click * random.rand()),
                     "end" if click else "", "%.2f" % random.gamma(2), "%.2f" % (random.rand() + 0.1 * click)])
    names = ["user", "age", "click", "time on x", "state", "w", "hint"]
    path = write(tmp_path / "größe.csv", text_of(rows, names, ","))
    definition = prepared(tmp_path, path)
    text = (tmp_path / "draft.yaml").read_text()
    assert [feature.name for feature in definition.features] == ["user", "age", "hint"] and definition.name == "gr_e"
    assert definition.weight == "w" and [task.name for task in definition.tasks] == ["click"]
    assert "put it back if it is known before: it tells click almost alone" in text
    restored = text.replace("  # time_on_x: {", "  time_on_x: {", 1).replace("  # state: {", "  state: {")
    definition = parse_dataset(restored, "x").definition
    assert [feature.column for feature in definition.features] == ["user", "state", "age", "time on x", "hint"]


@pytest.mark.parametrize("first, columns", [
    ("user,2024,click", ["user", "c_2024"]), (",user,click", ["user"]), ("user,?,click", ["user", "c_"])])
def test_a_header_is_known_by_the_numbers_below_it(tmp_path, capsys, first, columns):
    path = write(tmp_path / "h.csv", first + "\n" + "".join("%d,%d,%d\n" % (n % 7, n % 11, n % 2) for n in range(80)))
    definition = prepared(tmp_path, path)
    assert definition.files.header and [task.name for task in definition.tasks] == ["click"]
    assert [feature.name for feature in definition.features] == columns
    assert ("warning: column 1 has no name in line 1 and is left out" in capsys.readouterr().out) == (first[0] == ",")


FIXED_LISTS = "".join("u%d,%d,%s,%.2f\n" % (n % 50, n % 2, "|".join("i%d" % (n * j % 50) for j in range(1, 7)), n / 9)
                      for n in range(180))


@pytest.mark.parametrize("text, separator, header, columns", [
    (",user,liked\n" + "".join("%d,u%d,%s\n" % (n, n % 9, n % 2 == 0) for n in range(90)), ",", True,
     ["user", "liked"]),
    ("0,1,2\n" + "".join("%.2f,u%d,%d\n" % (n / 7, n % 9, n % 2) for n in range(90)), ",", True,
     ["c_0", "c_1", "c_2"]),
    (FIXED_LISTS, ",", False, ["c1", "c2", "c3", "c4"]),
    ("user,liked,seen,price\n" + FIXED_LISTS, ",", True, ["user", "liked", "seen", "price"]),
    ("".join("%d,5|x%d|%d\n" % (n % 7, n % 9, n % 2) for n in range(90)), "|", False, ["c1", "c2", "c3"])],
    ids=["index of texts", "names by number", "lists without a header", "lists", "decimal commas"])
def test_separators_beside_lists_and_headers_of_frames(tmp_path, text, separator, header, columns):
    found = read([write(tmp_path / "f.csv", text)], 1000)
    assert (found.files["separator"], found.files["header"]) == (separator, header)
    assert [column.key for column in examine(found)] == columns


@pytest.mark.parametrize("data, what", [
    (b"PK\x03\x04\x00\x00", "an Excel file"), (b'{"click": 1}\n{"click": 0}\n', "JSON lines"),
    (b"sep=;\na;b\n", "Excel"), (b"1::2::0\n2::3::1\n", "its first line is '1::2::0'")])
def test_what_is_no_csv_is_named(tmp_path, data, what):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(DataError, match=what):
        run(tmp_path / "f")


def test_the_printed_command_can_be_typed(tmp_path, capsys):
    path = write(tmp_path / "my log.csv", TABLE)
    run(path, "--output", tmp_path / "my draft.yaml")
    printed = capsys.readouterr().out.splitlines()[-1]
    assert "--dataset '%s' --train_data_path '%s'" % (tmp_path / "my draft.yaml", path) in printed


def test_words_for_an_unknown_label_are_missing_ones(tmp_path):
    rows = [["u%d" % (n % 9), "%.1f" % (n / 7), "MF"[n % 5 > 2], ["yes", "no", "no", "unknown"][n % 4]]
            for n in range(300)]
    rows[211][1] = "n.a."
    definition = prepared(tmp_path, write(tmp_path / "f.csv", text_of(rows, ["user", "price", "gender", "label"], ",")))
    assert [task.name for task in definition.tasks] == ["label"]
    assert definition.files.missing == ("", "n.a.", "unknown") and len(definition.numeric) == 1


def test_yes_or_no_that_stays_a_feature_is_told(tmp_path, capsys):
    rows = [["u%d" % (n % 9), "ny"[n % 7 > 2], "yn"[n % 3 > 0]] for n in range(300)]
    run(write(tmp_path / "f.csv", text_of(rows, ["user", "no_shows", "click"], ",")))
    assert "yes or no, and taken for features: no_shows; what is known only afterwards" in capsys.readouterr().out


def test_two_numbers_are_no_yes_or_no(tmp_path, capsys):
    rows = [["u%d" % (n % 9), "12"[n % 7 > 2], "yn"[n % 3 > 0]] for n in range(300)]
    run(write(tmp_path / "f.csv", text_of(rows, ["user", "rooms", "click"], ",")))
    assert "yes or no, and taken" not in capsys.readouterr().out


def test_a_number_that_follows_a_label_is_proposed_as_a_task(tmp_path):
    random = np.random.RandomState(5)
    rows = []
    for _ in range(600):
        booked = random.rand() < 0.4
        rows.append([str(random.randint(30)), str(int(booked)), "%.2f" % random.rand() if booked else "", "x"])
    path = write(tmp_path / "f.csv", text_of(rows, ["guest", "booked", "lead time", "y z"], ","))
    definition = prepared(tmp_path, path)
    text = (tmp_path / "draft.yaml").read_text()
    assert [task.name for task in definition.tasks] == ["booked"] and definition.group == "guest"
    line = next(line for line in text.splitlines() if line.startswith("  # lead_time: {type: regression"))
    restored = parse_dataset(text.replace(line, line.replace("# ", "", 1)), "x").definition
    task = restored.task("lead_time")
    assert (task.column, task.where, task.type) == ("lead time", "booked", "regression")


def encoded(text, encoding):
    return text.encode(encoding)


TABLE = "user,city,click\n" + "".join("u%d,%s,%d\n" % (n % 7, ["Köln", "Bonn"][n % 3 > 0], n % 2) for n in range(80))


@pytest.mark.parametrize("data, message", [
    (encoded(TABLE.replace("city", "größe"), "latin1"), "f.csv line 1: the text is not UTF-8; .* iconv -f LATIN1"),
    (encoded(TABLE.replace("Bonn", "Mölln"), "latin1"), r"has no usable row: .*is not UTF-8.* \(write .* iconv"),
    (encoded(TABLE, "utf-16"), "f.csv is UTF-16 text; write it as UTF-8, such as: iconv -f UTF-16"),
    (b"user,city,click\n", "f.csv has no usable row; it has a header and nothing else"),
    (b"click\n0\n1\n0\n", "fewer than two columns with a name"),
    (b"click,empty\n" + b"0,\n1,\n" * 9, "no column is left for a feature"),
    (TABLE.replace("city", "user").encode(), "has two columns of the name user; rename one")])
def test_files_that_are_no_tables_are_refused_in_one_line(tmp_path, data, message):
    (tmp_path / "f.csv").write_bytes(data)
    with pytest.raises(UserError, match=message) as found:
        run(tmp_path / "f.csv", "--output", tmp_path / "d.yaml")
    assert "\n" not in str(found.value) and sorted(os.listdir(str(tmp_path))) == ["f.csv"]


def test_rows_that_prepare_will_refuse_are_told(tmp_path, capsys):
    run(write(tmp_path / "f.csv", TABLE.replace("u1,Bonn,1", '"u\n1",Bonn,1')))
    printed = capsys.readouterr().out
    assert "prepare cannot use" in printed and "line 3: quotes are misplaced or not closed" in printed


@pytest.mark.parametrize("values, why", [
    (["25", "1,33", "0,5"], "looks like numbers with a decimal comma"),
    (["999", "1,234", "12,234,626.5"], "looks like numbers with commas between thousands")])
@pytest.mark.parametrize("absent", [False, True], ids=["full", "with n/a"])
def test_numbers_in_other_styles_are_no_lists(tmp_path, values, why, absent):
    values = ["n/a"] * absent + values + [values[1].replace("3", str(digit)) for digit in range(10)]
    rows = [["u%d" % (n % 9), values[n % len(values)], str(n % 2)] for n in range(90)]
    definition = prepared(tmp_path, write(tmp_path / "f.tsv", text_of(rows, ["user", "price", "click"])))
    assert [feature.name for feature in definition.features] == ["user"]
    assert "# price is left out: %s" % why in (tmp_path / "draft.yaml").read_text()


@pytest.mark.parametrize("name, values, kind", [
    ("watch time (s)", range(1, 800, 2), "target"), ("watch_time", range(1, 800, 2), "target"),
    ("eventTime", range(1600000000, 1600000399), "time"), ("day", range(20240501, 20240900), "time"),
    ("when", ["2024-05-31T12:%02d:%02d+02:00" % (n // 60, n % 60) for n in range(399)], "time"),
    ("movie", [n % 50 for n in range(399)], "categorical"), ("num_items", [n % 50 for n in range(399)], "numeric"),
    ("bid", ["%.2f" % (n / 7) for n in range(399)], "numeric")])
def test_names_and_values_say_what_a_column_is(tmp_path, name, values, kind):
    rows = [["u%d" % (n % 9), str(value), str(n * 7 % 13 % 2)] for n, value in enumerate(values)]
    columns = examine(read([write(tmp_path / "f.tsv", text_of(rows, ["user", name, "like"]))], 1000))
    assert [column.kind for column in columns] == ["categorical", kind, "label"]


def test_parquet_columns_are_taken_by_their_types(tmp_path, capsys):
    times = pa.array([10 ** 9 * (n + 1) for n in range(40)], pa.int64())
    table = pa.table({
        "user": pa.array(["u%d" % (n % 7) for n in range(40)]), "click": pa.array([n % 2 for n in range(40)]),
        "blob": pa.array([b"\xff\x00"] * 40), "event": pa.array([{"a": 1}] * 40),
        "took": times.cast(pa.duration("us")), "scores": pa.array([[0.5, 1.5]] * 40),
        "deep": pa.array([[[1], [2]]] * 40), "price": pa.array([" %d " % n for n in range(40)]),
        "at": times.cast(pa.timestamp("us", "UTC")), "on": times.cast(pa.timestamp("us")).cast(pa.date32(), safe=False),
        "cost": pa.array([decimal.Decimal("%d.25" % n) for n in range(40)]), "none": pa.array([None] * 40),
        "size": pa.array([n + 0.5 for n in range(40)])})
    pa.parquet.write_table(table, str(tmp_path / "f.parquet"))
    definition = prepared(tmp_path, str(tmp_path / "f.parquet"))
    text, printed = (tmp_path / "draft.yaml").read_text(), capsys.readouterr().out
    assert [feature.name for feature in definition.features] == ["user", "price", "cost", "size"]
    assert "# at is left out: a time" in text and "# on is left out: a time" in text and "# none is left out" in text
    for name, kind in (("blob", "binary"), ("event", "struct"), ("took", "duration"), ("scores", "list<"),
                       ("deep", "list<")):
        assert "warning: column %s: Parquet type %s" % (name, kind) in printed


def test_dates_in_another_style_are_no_categories(tmp_path):
    rows = [["u%d" % (n % 7), "%02d.11.2023 06:%02d" % (n % 28 + 1, n % 60), str(n % 2)] for n in range(90)]
    definition = prepared(tmp_path, write(tmp_path / "f.tsv", text_of(rows, ["user", "datum", "click"])))
    assert [feature.name for feature in definition.features] == ["user"]
    assert "# datum is left out: looks like dates in another style" in (tmp_path / "draft.yaml").read_text()


@pytest.mark.parametrize("yes, no", [("1", "0"), ("yes", "no"), ("True", "False"), ("Y", "N"), ("1", "-1")])
def test_what_a_label_never_is_without_is_a_stage_before_it(tmp_path, yes, no):
    random = np.random.RandomState(2)
    rows = []
    for number in range(500):
        opened = random.randint(2)
        labels = [opened, opened * random.randint(2), random.randint(2)]
        rows.append(["u%d" % (number % 9), *(yes if label else no for label in labels), "%.1f" % random.rand()])
    path = write(tmp_path / "f.csv", text_of(rows, ["user", "opened", "ordered", "vip", "weight"], ","))
    definition = prepared(tmp_path, path)
    assert [(task.name, task.given) for task in definition.tasks] == [("opened", ""), ("ordered", "opened")]
    expected = ((), ()) if yes + no == "10" else ((yes,), (no,))
    assert {(task.positive, task.negative) for task in definition.tasks} == {expected}
    assert [feature.name for feature in definition.features] == ["user", "vip", "weight"]
    assert "if it is the weight of a row, give weight: instead" in (tmp_path / "draft.yaml").read_text()


def test_a_slip_among_labels_and_a_stage_before_one_without_names(tmp_path, capsys):
    random = np.random.RandomState(3)
    rows = []
    for _ in range(400):
        opened = random.randint(2)
        rows.append(["%.2f" % random.rand(), str(opened), str(opened * random.randint(2))])
    plain = write(tmp_path / "plain.csv", "".join(",".join(row) + "\n" for row in rows))
    run(plain, "--output", tmp_path / "plain.yaml")
    tasks = load_dataset(str(tmp_path / "plain.yaml")).definition.tasks
    assert [(task.name, task.given) for task in tasks] == [("c2", ""), ("c3", "c2")]
    rows[7][2] = "maybe"
    path = write(tmp_path / "f.csv", text_of(rows, ["x", "opened", "ordered"], ","))
    run(path, "--output", tmp_path / "f.yaml")
    text = (tmp_path / "f.yaml").read_text()
    assert "opened: {type: binary" in text and "ordered: {type: binary" in text
    assert "warning: label ordered: 1 rows have other texts, such as 'maybe'" in capsys.readouterr().out


def test_what_is_the_same_in_all_rows_is_no_feature_and_dates_of_one_day_are_times(tmp_path):
    rows = [["u%d" % (number % 9), "eu", "2024-05-22", str(number % 2)] for number in range(200)]
    path = write(tmp_path / "f.csv", text_of(rows, ["user", "shop", "date", "click"], ","))
    assert [feature.name for feature in prepared(tmp_path, path).features] == ["user"]
    text = (tmp_path / "draft.yaml").read_text()
    assert "# shop is left out: the same value in all rows" in text and "# date is left out: a time" in text


def test_few_cells_that_are_no_numbers_are_named(tmp_path, capsys):
    rows = [["u%d" % (n % 9), "far" if n == 7 else "%.1f" % (n / 7), str(n % 2)] for n in range(300)]
    run(write(tmp_path / "f.tsv", text_of(rows, ["user", "distance", "click"])))
    assert "all but 1 rows are numbers ('far' is none)" in capsys.readouterr().out
