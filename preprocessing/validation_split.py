"""Validation rows out of the training file: ``python -m preprocessing.validation_split``.

Choices are made on such a split; the evaluation file of the data set stays unread until they are made.
"""
import argparse
import gzip
import os
import sys
from typing import List, Sequence

import numpy as np

from feature_specs.errors import DataError, UserError

TRAIN_NAME, TEST_NAME = "census-income.data", "census-income.test"
VALIDATION_SHARE = 5
_SEED = 1000


def read_lines(path: str) -> List[bytes]:
    """Returns the lines of a text file, plain or gzip.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    try:
        with open(path, "rb") as stream:
            is_gzip = stream.read(2) == b"\x1f\x8b"
        with (gzip.open(path, "rb") if is_gzip else open(path, "rb")) as stream:
            return list(stream)
    except (OSError, EOFError) as error:
        raise DataError("training text %s cannot be read (%s); give the raw text, plain or gzip"
                        % (path, error)) from error


def write_split(path: str, number: int, output_path: str) -> None:
    """Writes a folder that ``prepare --source`` reads: four fifths of the rows to train on, one fifth to validate.

    Args:
        path: raw training text.
        number: of the split; each is another random one.
        output_path: folder to make.

    Raises:
        DataError: the text cannot be read, or has fewer rows than a split needs.
    """
    lines = read_lines(path)
    order = np.random.RandomState(_SEED + number).permutation(len(lines))
    validation = len(lines) // VALIDATION_SHARE
    if not validation:
        raise DataError("training text %s has %d rows; at least %d are needed to set some aside"
                        % (path, len(lines), VALIDATION_SHARE))
    os.makedirs(output_path, exist_ok=True)
    for name, rows in ((TRAIN_NAME, order[validation:]), (TEST_NAME, order[:validation])):
        with open(os.path.join(output_path, name), "wb") as stream:
            stream.writelines(lines[row].rstrip(b"\r\n") + b"\n" for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Writes one split; returns the exit status."""
    parser = argparse.ArgumentParser(prog="preprocessing.validation_split", description=__doc__.splitlines()[0])
    parser.add_argument("--train_data_path", required=True, metavar="FILE", help="raw training text, plain or gzip")
    parser.add_argument("--number", type=int, default=0, metavar="N", help="number of the split (default: 0)")
    parser.add_argument("--output_path", required=True, metavar="DIR", help="folder to make")
    parsed = parser.parse_args(list(arguments))
    try:
        write_split(parsed.train_data_path, parsed.number, parsed.output_path)
    except UserError as error:
        sys.stderr.write("error: %s\n" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
