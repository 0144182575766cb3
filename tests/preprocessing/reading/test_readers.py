"""What readers accept, and what they say of what they do not."""
import gzip
import os
import tempfile
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.dataset_file import load_dataset, parse_dataset
from feature_specs.errors import ConfigError, DataError
from preprocessing.reading.bad_rows import BadRows, parse_limit
from preprocessing.reading.readers import Reading, find_inputs, read_frames
from preprocessing.samples.census import make_rows
from tests.support.rows import COLUMNS, TOY, TOY_YAML, text_of, toy_rows, write

CENSUS = load_dataset("census").definition


def census_rows(count, seed=0):
    columns = make_rows(np.random.RandomState(seed), count)
    return [list(row) for row in zip(*(columns[name] for name in CENSUS.files.columns))]


def census_text(rows):
    return "".join(", ".join(row) + "\n" for row in rows)


def read(definition, path, **options):
    reading = Reading(**{key: options.pop(key) for key in list(options) if key in Reading.__dataclass_fields__})
    reader = read_frames(definition, [path], reading, **options)
    frames = list(reader)
    return reader, frames


def column(frames, name):
    return np.concatenate([np.asarray(frame[name], object if frame[name].dtype.name == "category" else float)
                           for frame in frames])


def same(left, right, but=()):
    assert list(left[0].columns) == list(right[0].columns)
    for name in left[0].columns:
        if name not in but:
            np.testing.assert_array_equal(column(left, name), column(right, name))


ROWS = census_rows(20)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return read(CENSUS, write(tmp_path_factory.mktemp("census") / "f", census_text(ROWS)))[1]


@pytest.mark.parametrize("change", [
    lambda text: text.replace("- 50000.", "-50000").replace("50000+.", "50000+"),
    lambda text: text.replace("- 50000.", "- 50000"),
    lambda text: text.replace(", ", ","),
    lambda text: "".join(",".join('"%s"' % cell for cell in line.split(", ")) + "\n" for line in text.splitlines()),
    lambda text: text + "\n\n\r\n",
    lambda text: text.replace("\n", "\r\n"),
    lambda text: "\ufeff" + text,
    lambda text: text[:-1],
    lambda text: text.replace(", ", "  ,\t "),
], ids=["no dot or blank", "no dot", "no blanks", "quotes", "blank lines at the end", "CRLF", "BOM", "no last newline",
        "other blanks"])
def test_variants_that_mean_the_same(tmp_path, plain, change):
    text = change(census_text(ROWS)).encode("utf-8")
    for content in (text, gzip.compress(text), gzip.compress(text[:99]) + gzip.compress(text[99:])):
        found = read(CENSUS, write(tmp_path / "f", content))[1]
        same(found, plain, but=["income_50k"])
        assert ["+" in label for label in column(found, "income_50k")] == [
            "+" in label for label in plain[0]["income_50k"]]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "?", " ", "  ?", '"?"'])
def test_missing_numbers(tmp_path, cell):
    rows = [list(row) for row in ROWS]
    rows[3][0] = cell
    frame = read(CENSUS, write(tmp_path / "f", census_text(rows).replace(", ", ",")))[1][0]
    assert np.flatnonzero(np.isnan(frame["age:number"].to_numpy())).tolist() == [3] and len(frame) == 20


def bad(place, text):
    def change(rows):
        rows[4][place] = text
        return census_text(rows)
    return change


@pytest.mark.parametrize("change, message", [
    (lambda rows: census_text([[str(number)] + row for number, row in enumerate(rows)]),
     "line 1: 43 fields, expected 42; .*the first column looks like an index"),
    (lambda rows: "".join(", ".join(["x"] * 15) + "\n" for row in rows),
     "15 fields, expected 42.*this looks like the Adult data set \\(UCI 2\\); Census-Income \\(KDD\\) is UCI 117"),
    (lambda rows: "".join("\t".join(row) + "\n" for row in rows),
     "1 field, expected 42.*the separator looks like a tab"),
    (lambda rows: "".join(";".join(row) + "\n" for row in rows), "the separator looks like a semicolon"),
    (bad(0, "abc"), "1 of the first 20 rows cannot be used, 0 allowed: line 5: column age: 'abc' is not a number; "
     "correct"),
    (bad(0, "1_0"), "column age: '1_0' is not a number"),
    (bad(0, '"39,5"'), "column age: '39,5' is not a number .numbers have a decimal comma: write a point"),
    (lambda rows: census_text([["NA"] + row[1:] for row in rows]),
     "'NA' is not a number; ... in all .*.if NA means no value, files: {missing: .NA.} says so"),
    (bad(0, "inf"), "line 5: column age: the number is infinite"),
    (bad(0, "1e39"), "line 5: column age: the number is infinite or beyond float32"),
    (bad(41, "50"), "line 5: label of income '50': expected '- 50000.' or '50000\\+.'"),
    (bad(7, "Single"), "label of marital 'Single': expected one of 'Married-civ"),
    (lambda rows: ", ".join(CENSUS.files.columns) + "\n" + census_text(rows),
     "1 of the first 21 rows.*line 1: the names of the columns .line 1 looks like a header"),
    (lambda rows: ", ".join(CENSUS.files.columns) + "\n" + bad(0, "x")(rows), "2 of the first 21.*looks like a header"),
    (lambda rows: census_text(rows[:2]) + "\n" + census_text(rows[2:]), "line 3: the line is empty"),
    (lambda rows: census_text(rows).encode().replace(b"Male", b"M\xff"), "the text is not UTF-8"),
    (lambda rows: census_text(rows).replace(", Male", ',"Male', 1), "quotes are misplaced or not closed"),
    (lambda rows: "".join(",".join(row[:40]) + "\n" for row in rows[:9]),
     "line 5: 40 fields, expected 42; ... in all number of fields: 9"),
    (lambda rows: "", "it is empty"), (lambda rows: "\n\n", "it is empty"),
])
def test_what_is_wrong_is_said(tmp_path, change, message):
    path = write(tmp_path / "census.txt", change([list(row) for row in ROWS]))
    with pytest.raises(DataError, match=message) as caught:
        read(CENSUS, path)
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)


def test_bad_rows_within_the_limit_are_left_out_and_counted(tmp_path, plain):
    rows = [list(row) for row in ROWS]
    lines = census_text(rows).splitlines(True)
    lines.insert(2, "too, short\n")
    lines.insert(9, lines[0].replace("50000", "5"))
    path = write(tmp_path / "f", "".join(lines))
    for block in (1, 300, 1 << 20):
        reader, frames = read(CENSUS, path, max_bad_rows="10%", block_bytes=block)
        assert reader.bad_rows == {"number of fields": 1, "label income: unknown text": 1}
        assert reader.last_row == 22
        assert reader.reports[0].places[0] == (3, "2 fields, expected 42")
        places = np.concatenate([frame.index for frame in frames])
        assert places.tolist() == [place for place in range(1, 23) if place not in (3, 10)]
        assert np.concatenate([frame["age:number"] for frame in frames]).tolist() == plain[0]["age:number"].tolist()
    with pytest.raises(DataError, match="2 of the first 22 rows cannot be used, 1 allowed"):
        read(CENSUS, path, max_bad_rows=1)


def test_unclosed_quotes_do_not_merge_rows(tmp_path):
    text = 'k\tu\ti\t\t"t\t\t1\t2\t1\tno\t\t1\tx\nk\tu\ti\t\tt"\t\t1\t2\t1\tno\t\t1\tx\n'
    reader, frames = read(TOY, write(tmp_path / "f", text_of([]) + text_of(toy_rows(3), ()) + text), max_bad_rows=2)
    assert len(frames[0]) == 4 and reader.bad_rows == {"quotes are misplaced or not closed": 1}


@pytest.mark.parametrize("absent", [["income_50k"], ["marital_stat"], ["income_50k", "marital_stat"],
                                    ["instance_weight"], ["instance_weight", "income_50k"]])
def test_prediction_reads_files_that_lack_labels_or_unused_columns(tmp_path, plain, absent):
    """Nor does it look at them where they are there."""
    names = [name for name in CENSUS.files.columns if name not in absent]
    rows = [[row[CENSUS.files.columns.index(name)] for name in names] for row in ROWS]
    path = write(tmp_path / "f", census_text(rows))
    seen = [feature.name for feature in CENSUS.features if feature.name != "instance_weight"]
    found = read(CENSUS, path, features=seen)[1]
    assert set(plain[0].columns) - set(found[0].columns) == {"income_50k", "marital_stat", "instance_weight:number"}
    same(found, [plain[0][list(found[0].columns)]])
    with pytest.raises(DataError, match="%d fields?, expected 42" % len(names)):
        read(CENSUS, path)


def test_prediction_says_what_is_wrong_too(tmp_path):
    path = write(tmp_path / "f", "".join("\t".join(row) + "\n" for row in ROWS))
    with pytest.raises(DataError, match="the separator looks like a tab"):
        read(CENSUS, path, features=[feature.name for feature in CENSUS.features])


@pytest.mark.parametrize("packed", [False, True])
def test_prediction_is_not_disturbed_by_what_it_does_not_read(tmp_path, packed):
    """Labels, weight, group and left-out features may hold anything; the others and the row key count."""
    values = dict(zip(COLUMNS, toy_rows(1)[0]), click="whatever", seconds="soon", w="heavy", price="dear")
    definition, path = TOY, tmp_path / "f"
    if packed:
        definition = parse_dataset(TOY_YAML.replace('format: csv, header: true, separator: "\\t", ',
                                                    "format: parquet, "), "toy.yaml").definition
        pa.parquet.write_table(pa.table({name: [int(value) if name == "years" else value]
                                         for name, value in values.items()}), str(path))
    else:
        write(path, text_of([[values[name] for name in COLUMNS]]))
    features = [feature.name for feature in definition.features if feature.column != "price"]
    reader, frames = read(definition, str(path), features=features)
    assert len(frames[0]) == 1
    assert [frames[0][name].iloc[0] for name in ("key", "city")] == [values["key"], values["city"]]
    with pytest.raises(DataError, match="column price"):
        read(definition, str(path), features=[feature.name for feature in definition.features])


@pytest.mark.parametrize("features", [["user", "item"], None])
def test_the_names_of_the_columns_are_no_row_where_no_header_is_expected(tmp_path, features):
    """Nor is there another column that would show it: prediction would be one line off."""
    definition = parse_dataset("""
name: bare
files: {header: false, columns: [user, item, click]}
features:
  user: {type: categorical}
  item: {type: categorical}
tasks:
  click: {type: binary}
""", "bare.yaml").definition
    path = write(tmp_path / "f", "user,item,click\nu1,i1,0\nu2,i2,1\n")
    with pytest.raises(DataError, match="line 1: the names of the columns .line 1 looks like a header"):
        read(definition, path, features=features)
    reader, frames = read(definition, path, features=features, max_bad_rows=1)
    assert (reader.last_row, frames[0].index.tolist(), frames[0]["user"].tolist()) == (3, [2, 3], ["u1", "u2"])


def test_a_damaged_parquet_file_is_named(tmp_path):
    definition = parse_dataset(TOY_YAML.replace('format: csv, header: true, separator: "\\t", ', "format: parquet, "),
                               "toy.yaml").definition
    columns = dict(zip(COLUMNS, zip(*toy_rows(3000))))
    numbers = {name: [float(cell or "nan") for cell in columns[name]] for name in ("price", "years", "seconds", "w")}
    path = str(tmp_path / "f.parquet")
    pa.parquet.write_table(pa.table(dict({name: list(cells) for name, cells in columns.items()}, **numbers)), path)
    with open(path, "r+b") as stream:
        stream.seek(200)
        stream.write(b"\0" * 60)
    with pytest.raises(DataError, match="f.parquet is a damaged Parquet file"):
        read(definition, path)


def test_files_are_hashed_only_where_it_is_asked_for(tmp_path):
    path = write(tmp_path / "f", census_text(ROWS))
    whole, bare = (read(CENSUS, path, hashes=hashes)[0].inputs[0] for hashes in (True, False))
    assert (len(whole.sha256), bare.sha256) == (64, "") and whole.size == bare.size == os.path.getsize(path)


@pytest.mark.parametrize("columns, text, message", [
    (None, lambda text: text.replace("years", "year", 1), "column years is not in .*did you mean year\\?; its "
     "columns: key"),
    (None, lambda text: text.replace("\t", ","), "column user is not in .*the separator looks like a comma"),
    (None, lambda text: text.split("\n", 1)[1], "does the file have no header"),
    (None, lambda text: text.replace("unused", "city", 1), "two columns of the name city"),
])
def test_headers(tmp_path, columns, text, message):
    path = write(tmp_path / "f", text(text_of(toy_rows(5))))
    with pytest.raises(DataError, match=message):
        read(TOY, path)


def test_the_dataset_files_line_is_named(tmp_path):
    dataset = parse_dataset(TOY_YAML.replace("column: years", "column: yeers"), "my.yaml")
    with pytest.raises(DataError, match="my.yaml line 11: column yeers is not in .*did you mean years"):
        read(dataset.definition, write(tmp_path / "f", text_of(toy_rows(5))), places=dataset.places)


def test_files_with_other_columns_than_the_first_are_refused(tmp_path):
    first = write(tmp_path / "1", text_of(toy_rows(5)))
    order = write(tmp_path / "2", text_of([row[::-1] for row in toy_rows(5)], COLUMNS[::-1]))
    same(*[list(read_frames(TOY, [path])) for path in (first, order)])
    other = write(tmp_path / "3", text_of(toy_rows(5), COLUMNS[:-1] + ("else",)))
    with pytest.raises(DataError, match="3 has other columns than .*1: it lacks unused and has besides else"):
        list(read_frames(TOY, [first, order, other]))


@pytest.mark.filterwarnings("error")
def test_weights_and_log_labels_out_of_range(tmp_path):
    for place, text, message in ((11, "-1", "weight -1.0: a number of at least 0"), (11, "", "weight nan"),
                                 (10, "-1", "label of watch -1.0: transform log needs numbers above -1")):
        rows = toy_rows(4)
        rows[2][place] = text
        with pytest.raises(DataError, match="line 4: " + message):
            read(TOY, write(tmp_path / "f", text_of(rows)))


PARQUET = parse_dataset(TOY_YAML.replace('format: csv, header: true, separator: "\\t"', "format: parquet"),
                        "p.yaml").definition


def parquet(path, **changes):
    rows = toy_rows(4)
    columns = {name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(COLUMNS)}
    for name in ("price", "years", "seconds", "w"):
        columns[name] = pa.array([1.0, 2.0, 3.0, 4.0])
    columns.update(changes)
    pa.parquet.write_table(pa.table(columns), str(path))
    return str(path)


@pytest.mark.parametrize("changes, message", [
    ({"years": pa.array(["a"] * 4)}, "column years: Parquet type string does not fit; expected a number"),
    ({"city": pa.array([["a"]] * 4)}, "column city: Parquet type list<item: string> does not fit; expected text or "
     "whole numbers; a list feature needs max_length"),
    ({"seen": pa.array([[1.5]] * 4)}, "column seen: Parquet type list<item: double> does not fit; expected a list"),
    ({"city": pa.array([1.5] * 4)}, "categories must be text or whole numbers"),
    ({"click": pa.array([7] * 4)}, "label of click '7': expected '0' or '1', or what positive: and negative: name"),
    ({"seen": pa.array([["a,b"]] * 4)}, "row 1: column seen: a value holds the separator ','"),
    ({"price": pa.array([1.0, float("inf"), 1.0, 1.0])}, "row 2: column price: the number is infinite"),
])
def test_parquet_types_that_do_not_fit(tmp_path, changes, message):
    with pytest.raises(DataError, match="f.parquet.*" + message):
        read(PARQUET, parquet(tmp_path / "f.parquet", **changes))


def test_parquet_types_that_fit(tmp_path):
    path = parquet(tmp_path / "f.parquet", city=pa.array([7.0, float("nan"), 8.0, 7.0]),
                   user=pa.array([2 ** 40, 5, -1, 0]),
                   seen=pa.array([[1, 2], [], None, [3]]), click=pa.array([True, False, None, True]),
                   years=pa.array([1, None, 3, 4], pa.int16()), tags=pa.array(["a|b", "", None, "c"]),
                   price=pa.array([True, False, True, None]))
    frame = read(PARQUET, path)[1][0]
    assert frame["city"].tolist() == ["7", "", "8", "7"] and frame["user"].tolist() == [str(2 ** 40), "5", "-1", "0"]
    assert frame["seen"].tolist() == ["1,2", "", "", "3"] and frame["click"].tolist() == ["1", "0", "", "1"]
    assert frame["tags"].tolist() == ["a|b", "", "", "c"]
    np.testing.assert_array_equal(frame["years:number"], [1, np.nan, 3, 4])
    for name, content in (("x.parquet", b"PAR1 nonsense"), ("y.parquet", b"")):
        with pytest.raises(DataError, match=name + " cannot be read as Parquet"):
            read(PARQUET, write(tmp_path / name, content))


def test_damaged_and_missing_files(tmp_path):
    packed = gzip.compress(census_text(ROWS).encode())
    for name, content, message in (("a.gz", b"plain", "is not a gzip file"), ("b.gz", packed[:-20], "truncated"),
                                   ("c.gz", packed[:60] + bytes(50) + packed[110:], "damaged|truncated|cannot be read"),
                                   ("d", packed[:30], "truncated")):
        with pytest.raises(DataError, match=message):
            read(CENSUS, write(tmp_path / name, content))
    for pattern in ("nowhere", "*.csv"):
        with pytest.raises(DataError, match="no such file"):
            find_inputs([os.path.join(str(tmp_path), pattern)])
    with pytest.raises(DataError, match="is a directory"):
        read(CENSUS, str(tmp_path))


def test_limits():
    assert parse_limit("12") == (12, 0.0) and parse_limit(" 2.5%") == (0, 0.025) and parse_limit(3) == (3, 0.0)
    for text in ("", "-1", "x", "101%", "1e3", "%"):
        with pytest.raises(ConfigError, match="max_bad_rows"):
            parse_limit(text)
    report = BadRows("f", "50%")
    report.add("r", 1, "t")
    report.check(1, is_end=False)
    report.check(2)
    with pytest.raises(DataError, match="1 of 1 rows"):
        report.check(1)


CELL = st.text(st.characters(blacklist_characters="\0\n\r\t", blacklist_categories=("Cs",)), max_size=6)
NUMBER = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
                   st.integers(-10 ** 9, 10 ** 9).map(str), st.sampled_from(["", "?", "nan", "+5", " 7 ", ".5", "5."]))


@settings(max_examples=60)
@given(st.lists(st.tuples(CELL, NUMBER, st.sampled_from(["0", "1", "", "0.0"])), min_size=1, max_size=8),
       st.integers(1, 60), st.sampled_from([1, 10, 25, 1 << 20]))
def test_any_cells_are_read_as_pythons_csv_reads_them(rows, block, parsed):
    """However few bytes are read and parsed together: also fewer than a line has."""
    definition = parse_dataset("{name: t, files: {header: false, separator: \"\\t\", columns: [c, x, y]}, features: "
                               "{c: {type: categorical}, x: {type: numeric}}, tasks: {y: {type: binary}}}",
                               "t").definition
    text = text_of(rows, None)
    with tempfile.TemporaryDirectory() as folder, mock.patch("preprocessing.reading.text_rows._PARSED_BYTES", parsed):
        frames = read(definition, write(os.path.join(folder, "f"), text), block_bytes=block)[1]
    blanks = " \t\n\v\f\r"
    assert sum((frame["c"].tolist() for frame in frames), []) == [row[0].strip(blanks) for row in rows]
    expected = [np.nan if row[1] in ("", "?", "nan") else np.float32(float(row[1])) for row in rows]
    numbers = np.concatenate([frame["x:number"] for frame in frames])
    np.testing.assert_array_equal(numbers, np.array(expected, np.float32))


# A table of a text, a number, a label and a column that nobody uses: what a line gives, None for a bad row.
ODD_LINES = (
    (b'"ab"c\t1\t0\t', ("abc", 1)), (b'"ab" \t1\t0\t', ("ab", 1)), (b'""a\t1\t0\t', ("a", 1)),
    (b'"a\tb"c\t1\t0\t', ("a\tbc", 1)), (b'a"b\t1\t0\t', ('a"b', 1)), (b'"a""b"\t1\t0\t', ('a"b', 1)),
    (b'"ab"c"d"\t1\t0\t', ('abc"d"', 1)), (b'"ab\t1\t0\t', None), (b'ab\t1\t0\t"', None),
    (b"a\0b\t1\t0\t", None), (b"ab\t1\t0\t\0", None), (b"a\rb\t1\t0\t", None), (b"\rab\t1\t0\t", None),
    (b"ab\t1\t0\t\rcd\t1\t0\t", None), (b'"a\rb"\t1\t0\t', ("a\rb", 1)), (b"ab\t1\t0\t\r\r", ("ab", 1)),
    (b"ab\t1\t0\t\xff", ("ab", 1)), (b"\xff\t1\t0\t", None), (b"ab\tNAN\t0\t", ("ab", None)),
    (b"ab\t-nan\t0\t", ("ab", None)), (b"\t\t\t", ("", None)), (b"", None), (b" ", None), (b"\r", None))


@pytest.mark.parametrize("line, expected", ODD_LINES)
@pytest.mark.parametrize("other", [b"", b"\n", b"bad\n", b"\n\n", b"x\t1\t0\t\r\n"])
@pytest.mark.parametrize("parsed", [12, 1 << 20])
def test_what_a_line_gives_depends_on_no_other_line(tmp_path, monkeypatch, line, expected, other, parsed):
    monkeypatch.setattr("preprocessing.reading.text_rows._PARSED_BYTES", parsed)
    definition = parse_dataset("{name: t, files: {header: false, separator: \"\\t\", columns: [c, x, y, z]}, features: "
                               "{c: {type: categorical}, x: {type: numeric}}, tasks: {y: {type: binary}}}",
                               "t").definition
    good = b"good\t7\t1\t\n"
    path = write(tmp_path / "f", good + other + line + b"\n" + good)
    (frame,) = read(definition, path, max_bad_rows="100%")[1]
    place = 2 + other.count(b"\n")
    rows = {number: (text, None if np.isnan(value) else value)
            for number, text, value in zip(frame.index, frame["c"], frame["x:number"])}
    assert rows.get(place) == expected and rows[1] == rows[place + 1] == ("good", 7)


def test_an_empty_line_and_a_bare_carriage_return_do_not_cancel_out(tmp_path):
    rows = [text_of([row], None) for row in toy_rows(4)]
    text = text_of([]) + rows[0] + "\n" + rows[1][:-1] + "\r" + rows[2] + rows[3]
    reader, (frame,) = read(TOY, write(tmp_path / "f", text), max_bad_rows=2)
    assert frame.index.tolist() == [2, 5]
    assert reader.bad_rows == {"empty line": 1, "a carriage return outside of quotes": 1}


@settings(max_examples=100)
@given(st.data())
def test_changed_bytes_give_rows_or_one_error(data):
    import tempfile
    content = bytearray(text_of(toy_rows(6)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        token = data.draw(st.sampled_from([b"", b"\0", b'"', b"\n", b"\t", b"\xff", b"\r", b"1e999", b"NULL",
                                           b"\xef\xbb\xbf"]))
        content[start:start + data.draw(st.integers(0, 9))] = token
    with tempfile.TemporaryDirectory() as folder:
        path = write(os.path.join(folder, "f"), bytes(content))
        try:
            for frame in read(TOY, path, max_bad_rows="100%")[1]:
                numbers = frame[[name + ":number" for name in ("price", "years", "seconds", "w")]]
                assert not np.isinf(numbers.to_numpy()).any()
        except DataError as error:
            assert "\n" not in str(error)


def test_a_parquet_file_where_text_is_expected_is_named_as_one(tmp_path):
    path = str(tmp_path / "rows.csv")
    pa.parquet.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(DataError, match="rows.csv is a Parquet file, and text is expected"):
        read(TOY, path)


def test_lines_that_end_with_carriage_returns_alone_are_named(tmp_path):
    path = tmp_path / "mac.tsv"
    path.write_bytes(text_of(toy_rows(3)).replace("\n", "\r").encode())
    with pytest.raises(DataError, match="mac.tsv: lines end with carriage returns alone; write it with line feeds"):
        read(TOY, str(path))
