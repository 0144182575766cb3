"""The made-up data sets, by name."""
import gzip
import os
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from feature_specs.errors import ConfigError
from preprocessing import sample_census, sample_shop

_MAX_ROWS = 10000000


class _Sample(NamedTuple):
    """Files of training and test rows and how many these are by default, the first line, what stands between cells, and
    the rows: (seed, number of the file, rows) -> blocks of {column: a text per row}."""

    files: Tuple[str, str]
    rows: Tuple[int, int]
    header: bytes
    separator: str
    blocks: Callable[[int, int, int], Iterator[Dict[str, List[str]]]]


_SAMPLES = {
    "census": _Sample(("census-income.data.gz", "census-income.test.gz"), (60000, 20000), b"", ", ",
                      sample_census.blocks),
    "shop": _Sample(("shop.train.tsv.gz", "shop.test.tsv.gz"), (40000, 10000),
                    ("\t".join(sample_shop.COLUMNS) + "\n").encode("ascii"), "\t", sample_shop.blocks)}
SAMPLES = tuple(_SAMPLES)
#: What they are called.
SAMPLE_FILES = tuple(name for sample in _SAMPLES.values() for name in sample.files)


def write_sample(name: str, directory: str, train_rows: Optional[int] = None, test_rows: Optional[int] = None,
                 seed: int = 2020) -> Tuple[str, str]:
    """Writes a training and a test file.

    Args:
        name: one of :data:`SAMPLES`.
        directory: existing folder.
        train_rows, test_rows: number of rows, each from 1 to 10,000,000; None: the sample's own.
        seed: from 0 to 2**31 - 1; the same seed gives the same bytes.

    Returns:
        Their paths.

    Raises:
        ConfigError: a number is out of range.
    """
    sample = _SAMPLES[name]
    rows = [default if given is None else given for given, default in zip((train_rows, test_rows), sample.rows)]
    for what, value, least, most in (
            ("sample_train_rows", rows[0], 1, _MAX_ROWS), ("sample_test_rows", rows[1], 1, _MAX_ROWS),
            ("sample_seed", seed, 0, 2 ** 31 - 1)):
        if not least <= value <= most:
            raise ConfigError("%s %d: give a whole number from %d to %d" % (what, value, least, most))
    paths = [os.path.join(directory, file) for file in sample.files]
    for number, path in enumerate(paths):
        # Without name and time in its head, the same rows give the same file.
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as stream:
            stream.write(sample.header)
            for columns in sample.blocks(seed, number, rows[number]):
                lines = map(sample.separator.join, zip(*columns.values()))
                stream.write(("\n".join(lines) + "\n").encode("ascii"))
    return paths[0], paths[1]
