"""The made-up data sets, by name."""
import gzip
import os
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from feature_specs.checks import check_range
from preprocessing.samples import census, shop

_MAX_ROWS = 10000000


class _Sample(NamedTuple):
    """Files of training and test rows and how many these are by default, whether names stand in line 1, what stands
    between cells, and the rows: (seed, number of the file, rows) -> blocks of {column: a text per row}."""

    files: Tuple[str, str]
    rows: Tuple[int, int]
    header: bool
    separator: str
    blocks: Callable[[int, int, int], Iterator[Dict[str, List[str]]]]


_SAMPLES = {
    "census": _Sample(("census-income.data.gz", "census-income.test.gz"), (60000, 20000), False, ", ",
                      census.blocks),
    "shop": _Sample(("shop.train.tsv.gz", "shop.test.tsv.gz"), (40000, 10000), True, "\t", shop.blocks)}
SAMPLES = tuple(_SAMPLES)
#: What they are called.
SAMPLE_FILES = tuple(name for sample in _SAMPLES.values() for name in sample.files)


def write_sample(name: str, directory: str, train_rows: Optional[int] = None, test_rows: Optional[int] = None,
                 seed: int = 2020) -> Tuple[str, str]:
    """Writes a training and a test file of one of :data:`SAMPLES`, and returns their paths.

    Without a number of rows the sample has its own; the same seed gives the same bytes.

    Raises:
        ConfigError: a number is out of range.
    """
    sample = _SAMPLES[name]
    rows = [default if given is None else given for given, default in zip((train_rows, test_rows), sample.rows)]
    check_range("sample_train_rows", rows[0], 1, _MAX_ROWS)
    check_range("sample_test_rows", rows[1], 1, _MAX_ROWS)
    check_range("sample_seed", seed, 0, 2 ** 31 - 1)
    paths = [os.path.join(directory, file) for file in sample.files]
    for number, path in enumerate(paths):
        # Without name and time in its head, the same rows give the same file.
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as stream:
            for block, columns in enumerate(sample.blocks(seed, number, rows[number])):
                lines = [tuple(columns)] if sample.header and not block else []
                lines += zip(*columns.values())
                stream.write("".join(sample.separator.join(cells) + "\n" for cells in lines).encode("ascii"))
    return paths[0], paths[1]
