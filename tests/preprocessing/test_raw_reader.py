import gzip
import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.errors import ConfigError, DataError
from preprocessing.bad_rows import BadRows, parse_limit
from preprocessing.raw_reader import InputFile, new_value_table, read_chunks, read_lines
from preprocessing.text_scan import MAX_LINE_BYTES, Layout, parse_numbers, scan_block
from tests.preprocessing.tools import TOY, toy_line, toy_text, write


def read_all(path, **options):
    table = options.pop("table", None) or new_value_table(TOY)
    chunks = list(read_chunks(path, TOY, table, **options))
    texts = [[(table.values(c) + ["<unknown>"])[i] for c, i in enumerate(row)]
             for chunk in chunks for row in chunk.sparse]
    join = {name: np.concatenate([getattr(chunk, name) for chunk in chunks])
            for name in ("line_numbers", "dense", "labels", "row_hashes")}
    return texts, join, table


def bad_rows_of(path, limit="100%", **options):
    bad = BadRows(path, limit)
    texts, join, _ = read_all(path, bad_rows=bad, **options)
    return bad, texts, join


def test_values_by_hand(tmp_path):
    path = write(tmp_path / "a", " 1 ,  p ,u,q r  ,  -2.5 , yes , 1. \n3,NA,u,, 1e2 ,no,0.\r\n5,\tp\t,u,nan, +4,no,1.")
    texts, join, table = read_all(path)
    assert texts == [["q r", "p"], ["", "NA"], ["nan", "p"]]
    assert table.values(0) == ["q r", "", "nan"] and table.values(1) == ["p", "NA"]
    assert join["dense"].tolist() == [[-2.5, 1], [100, 3], [4, 5]] and join["dense"].dtype == np.float32
    assert join["labels"].tolist() == [[1, 1], [0, 0], [0, 1]]
    assert join["line_numbers"].tolist() == [1, 2, 3]


def test_quotes_and_unicode_are_plain_text(tmp_path):
    path = write(tmp_path / "a", "\ufeff" + toy_line(a='"x', b="Zürich 東") + toy_line(a="x\"", b="'"))
    assert read_all(path)[0] == [["Zürich 東", '"x'], ["'", 'x"']]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("workers", [1, 3])
def test_chunks_and_threads_do_not_matter(tmp_path, chunk_bytes, workers):
    text = toy_text(100) + "bad\n" + toy_text(20, 100)
    expected = bad_rows_of(write(tmp_path / "a", text))
    for data, name in ((text.encode(), "a"), (gzip.compress(text.encode()), "a.gz"),
                       (gzip.compress(text[:333].encode()) + gzip.compress(text[333:].encode()), "b.gz")):
        bad, texts, join = bad_rows_of(write(tmp_path / name, data), chunk_bytes=chunk_bytes, num_workers=workers)
        assert texts == expected[1] and bad.counts == {"wrong number of fields": 1}
        assert bad.first_lines == {"wrong number of fields": [101]}
        for key, values in join.items():
            np.testing.assert_array_equal(values, expected[2][key])


@pytest.mark.parametrize("line, reason", [
    ("1,2,3", "wrong number of fields"),
    ("", "wrong number of fields"),
    ("   ", "wrong number of fields"),
    ("1,a,u,b,2,no,0.,9", "wrong number of fields"),
    ("1,a\0,u,b,2,no,0.", "invalid text"),
    ("1,a,u\x07,b,2,no,0.", "invalid text"),
    ("1,a\rx,u,b,2,no,0.", "invalid text"),
    ("1,a\x7f,u,b,2,no,0.", "invalid text"),
    (b"1,a\xff,u,b,2,no,0.", "invalid text"),
    (b"1,a\xc3,u,b\xa9,2,no,0.", "invalid text"),
    ("one,a,u,b,2,no,0.", "bad number"),
    (",a,u,b,2,no,0.", "bad number"),
    ("nan,a,u,b,2,no,0.", "bad number"),
    ("-inf,a,u,b,2,no,0.", "bad number"),
    ("1e39,a,u,b,2,no,0.", "bad number"),
    ("1_0,a,u,b,2,no,0.", "bad number"),
    ("1.2.3,a,u,b,2,no,0.", "bad number"),
    ("0x10,a,u,b,2,no,0.", "bad number"),
    ("٣,a,u,b,2,no,0.", "bad number"),
    ("-,a,u,b,2,no,0.", "bad number"),
    (".,a,u,b,2,no,0.", "bad number"),
    ("1,a,u,b,2,maybe,0.", "unknown label"),
    ("1,a,u,b,2,no,0", "unknown label"),
    ("1,a,u,b,2,,0.", "unknown label"),
    ("x,a,u,b,y,click,buy", "bad number"),
    ("1," + "a" * MAX_LINE_BYTES + ",u,b,2,no,0.", "line too long"),
    ("z" * (3 * MAX_LINE_BYTES), "line too long"),
], ids=lambda value: ascii(value)[:25])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_every_kind_of_bad_row(tmp_path, line, reason, place):
    good = [toy_line(x=i, a="g%d" % i).encode() for i in range(6)]
    raw = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "a", b"".join(good[:place] + [raw + b"\n"] + good[place:] + [b"7,g,u,b,1,no,0.\n"]))
    bad, texts, join = bad_rows_of(path, chunk_bytes=100)
    assert bad.counts == {reason: 1} and bad.first_lines == {reason: [place + 1]}
    # Nothing of a bad row gets into the vocabulary, and no other row is lost.
    assert [row[1] for row in texts] == ["g%d" % i for i in range(6)] + ["g"]
    assert join["line_numbers"].tolist() == [i for i in range(1, 9) if i != place + 1]
    with pytest.raises(DataError) as caught:
        read_all(path)
    message = str(caught.value)
    assert path in message and reason in message and "line %d" % (place + 1) in message and "\n" not in message


def test_bad_rows_are_counted_by_reason_with_the_first_five_lines(tmp_path):
    path = write(tmp_path / "a", "bad\n" * 7 + toy_line() * 3 + toy_line(x="?") * 2)
    with pytest.raises(DataError, match=r"9 of 12 rows .*bad number: 2 \(lines 11, 12\); wrong number of fields: 7 "
                                        r"\(lines 1, 2, 3, 4, 5, ...\)"):
        read_all(path, bad_rows=BadRows(path, 8))
    read_all(path, bad_rows=BadRows(path, 9))
    read_all(path, bad_rows=BadRows(path, "75%"))
    with pytest.raises(DataError):
        read_all(path, bad_rows=BadRows(path, "74%"))


@pytest.mark.parametrize("limit", ["-1", "x", "101%", "1.5", "%", "nan%"])
def test_limit_must_be_rows_or_percent(limit):
    with pytest.raises(ConfigError, match="max_bad_rows"):
        parse_limit(limit)
    assert parse_limit("0.5%") == (0, 0.005) and parse_limit(3) == (3, 0.0) and parse_limit(None) == (0, 0.0)


@pytest.mark.parametrize("name, data, pattern", [
    ("a", b"", "empty"), ("a", b"\n", "empty"), ("a.gz", b"", "empty"), ("a.gz", gzip.compress(b""), "empty"),
    ("a.gz", b"1,2,3\n", "not a gzip file"),
    ("a.gz", gzip.compress(toy_text(500).encode())[:-9], "truncated gzip"),
    ("a.gz", gzip.compress(toy_text(500).encode())[:40], "truncated gzip"),
    ("a.gz", gzip.compress(toy_text(50).encode()) + b"junk", "damaged gzip"),
    ("a.gz", gzip.compress(toy_text(500).encode())[:60] + b"\0" * 50 + gzip.compress(toy_text(500).encode())[110:],
     "damaged gzip"),
    ("a", bytes(range(256)) * 20, "cannot be used"),
])
def test_files_that_cannot_be_used(tmp_path, name, data, pattern):
    path = write(tmp_path / name, data)
    with pytest.raises(DataError, match=pattern) as caught:
        read_all(path)
    assert path in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            read_all(str(path))
    path = write(tmp_path / "a", "bad\n")
    with pytest.raises(DataError, match="no usable row"):
        bad_rows_of(path)


def test_one_empty_last_line_is_no_row(tmp_path):
    path = write(tmp_path / "a", toy_line() + "\n")
    assert len(read_all(path)[0]) == 1
    bad, texts, _ = bad_rows_of(write(tmp_path / "b", toy_line() + "\n\n" + toy_line() + "\r\n"), chunk_bytes=1)
    assert len(texts) == 2 and bad.first_lines == {"wrong number of fields": [2, 3]}


def test_file_facts(tmp_path):
    data = gzip.compress(toy_text(300).encode())
    path, info, seen = write(tmp_path / "a.gz", data), InputFile("a"), []
    read_all(path, info=info, progress=seen.append, chunk_bytes=100)
    assert (info.size, info.sha256, info.lines, info.rows) == (len(data), hashlib.sha256(data).hexdigest(), 300, 300)
    assert seen == sorted(seen) and seen[-1] == len(data)


def test_prediction_reads_unknown_and_missing_labels(tmp_path):
    table = new_value_table(TOY, {"a": ("p",), "b": ("q",)})
    path = write(tmp_path / "a", toy_line(click="?") + toy_line(a="new", buy="1.", click="yes") + toy_line())
    texts, join, _ = read_all(path, table=table, grow=False, require_labels=False)
    assert join["labels"].tolist() == [[-1, 0], [1, 1], [0, 0]]
    assert texts == [["q", "p"], ["q", "<unknown>"], ["q", "p"]] and table.values(1) == ["p"]
    bare = write(tmp_path / "b", "1,p,u,q,2\n3,z,u,q,4\n")
    texts, join, _ = read_all(bare, table=table, grow=False, require_labels=False)
    assert join["labels"].tolist() == [[-1, -1]] * 2 and join["dense"].tolist() == [[2, 1], [4, 3]]
    with pytest.raises(DataError):
        read_all(bare)


def test_equal_lines_have_equal_hashes(tmp_path):
    lines = [toy_line(x=i % 50, a="v%d" % (i % 3)) for i in range(500)]
    hashes = read_all(write(tmp_path / "a", "".join(lines)), chunk_bytes=333)[1]["row_hashes"]
    assert len(set(hashes.tolist())) == len(set(lines)) == 150


def test_settings_are_checked(tmp_path):
    path = write(tmp_path / "a", toy_line())
    for options in ({"chunk_bytes": 0}, {"num_workers": 0}):
        with pytest.raises(ConfigError):
            read_all(path, **options)


CELL = st.text(st.sampled_from("ab \t.'\"é東x0"), max_size=12)


@settings(max_examples=60)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=25), st.integers(1, 200), st.booleans())
def test_texts_agree_with_python(tmp_path_factory, cells, chunk_bytes, final_newline):
    text = "\n".join("1,%s,%s,%s,2,no,0." % cell for cell in cells) + "\n" * final_newline
    path = write(tmp_path_factory.mktemp("h") / "a", text)
    texts, _, table = read_all(path, chunk_bytes=chunk_bytes)
    assert texts == [[b.strip(" \t"), a.strip(" \t")] for a, _, b in cells]
    for column in (0, 1):
        assert table.values(column) == list(dict.fromkeys(row[column] for row in texts))


NUMBERS = st.one_of(
    st.integers(-10 ** 18, 10 ** 18).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str), st.floats(width=32).map(repr),
    st.text(st.sampled_from("0123456789.-+eE_naif"), max_size=18))


@settings(max_examples=200)
@given(st.lists(NUMBERS, min_size=1, max_size=12))
def test_numbers_agree_with_float(texts):
    data = ",".join(texts).encode()
    ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    values, valid = parse_numbers(np.frombuffer(data + b",", np.uint8), starts, ends)
    for text, value, is_valid in zip(texts, values, valid):
        try:
            with np.errstate(over="ignore"):
                expected = np.float32(float(text))
        except ValueError:
            expected = np.float32("nan")
        if not np.isfinite(expected) or "_" in text:
            assert not is_valid and value == 0
        else:
            assert is_valid and value == expected, text


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_bytes_give_rows_or_a_clear_error(tmp_path_factory, data, chunk_bytes):
    path = write(tmp_path_factory.mktemp("f") / "a", data)
    bad, info = BadRows(path, "100%"), InputFile(path)
    rows = 0
    try:
        for chunk in read_chunks(path, TOY, bad_rows=bad, info=info, chunk_bytes=chunk_bytes):
            rows += len(chunk.labels)
    except DataError as error:
        assert path in str(error)
    assert rows + bad.total == info.lines


def test_lines_come_back_as_they_are(tmp_path):
    text = "".join("%d\n" % i * (i % 4) for i in range(300))
    for chunk_bytes in (1, 5, 1000):
        assert b"".join(read_lines(write(tmp_path / "a", text.rstrip("\n")), chunk_bytes)) == text.encode()


def test_columns_agree_with_pandas():
    random = np.random.RandomState(3)
    frame = pd.DataFrame({"n%d" % i: random.lognormal(3, 3, 500).round(i) for i in range(4)})
    frame["t"] = ["text %d" % i for i in random.randint(0, 90, 500)]
    data = frame.to_csv(header=False, index=False).encode()
    scanned = scan_block(data, Layout(5, (4,), (0, 1, 2, 3)))
    read = pd.read_csv(io.BytesIO(data), header=None, float_precision="round_trip")
    np.testing.assert_array_equal(scanned.dense, read[[0, 1, 2, 3]].values.astype(np.float32))
    assert [scanned.text(i, 0) for i in range(500)] == read[4].tolist()
    codes = pd.factorize(scanned.hashes[:, 0])[0]
    np.testing.assert_array_equal(codes, pd.factorize(read[4])[0])
