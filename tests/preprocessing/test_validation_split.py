import gzip

from preprocessing.validation_split import main, read_lines


def test_every_row_is_in_one_part_and_splits_differ(tmp_path):
    rows = [b"%d, a\n" % number for number in range(53)]
    with gzip.open(str(tmp_path / "raw.gz"), "wb") as stream:
        stream.writelines(rows)
    parts = []
    for number in ("0", "1", "0"):
        folder = tmp_path / ("split" + str(len(parts)))
        main(["--train_data_path", str(tmp_path / "raw.gz"), "--number", number, "--output_path", str(folder)])
        parts.append((read_lines(str(folder / "census-income.data")), read_lines(str(folder / "census-income.test"))))
    assert [len(part) for part in parts[0]] == [43, 10]
    assert sorted(parts[0][0] + parts[0][1]) == sorted(rows)
    assert parts[0] == parts[2] and parts[0][1] != parts[1][1]


def test_text_that_cannot_be_split_is_one_line(tmp_path, capsys):
    (tmp_path / "short").write_text("1\n2\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"1\n" * 9)[:-9])
    for name, words in (("absent", "cannot be read"), ("short", "has 2 rows"), ("cut.gz", "cannot be read")):
        assert main(["--train_data_path", str(tmp_path / name), "--output_path", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
