import gzip

from benchmarks.validation_split import main, read_lines


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
