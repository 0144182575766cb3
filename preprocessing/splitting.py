"""Which rows of one set of files are for testing: by chance, by the hash of a column, or the last part of a time."""
from typing import Any, Callable

import numpy as np
import pandas as pd

from feature_specs.errors import DataError
from feature_specs.manifest import RowSplit
from preprocessing.reading.readers import FrameReader
from preprocessing.reading.times import times_of_texts
from preprocessing.statistics import mix

_RANGE = 1 << 32
#: Tells some rows: raw frame of n rows -> bool [n].
_Rows = Callable[[pd.DataFrame], np.ndarray]


def part_rows(split: RowSplit, held_back: RowSplit, reader: FrameReader, is_test: bool) -> _Rows:
    """Returns what tells the rows for testing, or the others; the test rows of ``held_back`` are neither.

    A split by time reads the files once, to find where the last part begins.

    Raises:
        DataError: a time cannot be read.
    """
    held = _test_rows(held_back, reader, _no_rows)
    tested = _test_rows(split, reader, held)
    return lambda frame: ~held(frame) & (tested(frame) == is_test)


def _test_rows(split: RowSplit, reader: FrameReader, held: _Rows) -> _Rows:
    """Returns what tells the test rows of a split of the rows that are not held."""
    if not split.share:
        return _no_rows
    if split.by_time:
        times = np.sort(np.concatenate([times_of(frame, split.by_time)[~held(frame)] for frame in reader]))
        count = int(round(split.share * len(times)))
        first = times[-count] if count else np.inf
        return lambda frame: times_of(frame, split.by_time) >= first
    limit = np.uint64(round(split.share * _RANGE))

    def tested(frame: pd.DataFrame) -> np.ndarray:
        if split.by_column:
            column: Any = frame[split.by_column].array
            hashes = pd.util.hash_array(column.categories.to_numpy(object))[column.codes]
        else:
            # The row's place decides, so that blocks do not matter.
            path = pd.util.hash_array(np.array([frame.attrs["path"].rsplit("/", 1)[-1]], object))[0]
            hashes = mix(frame.index.to_numpy().astype(np.uint64) ^ path)
        return mix(hashes ^ np.uint64(split.seed)) % np.uint64(_RANGE) < limit

    return tested


def _no_rows(frame: pd.DataFrame) -> np.ndarray:
    return np.zeros(len(frame), bool)


def times_of(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Returns float64 [n]: a column's numbers, or seconds of its dates and times, which without a zone count as UTC.

    Raises:
        DataError: a value is neither.
    """
    values: Any = frame[column].cat.remove_unused_categories().array
    times = times_of_texts(values.categories)[values.codes]
    wrong = np.flatnonzero(~np.isfinite(times))
    if len(wrong):
        text = values[wrong[0]]
        raise DataError("%s %s %d: column %s %s; --split_by_time needs numbers, or dates such as 2024-05-31, "
                        "2024-05-31 12:30:00 or 2024-05-31T12:30:00+02:00" % (
                            frame.attrs["path"], frame.attrs["unit"], frame.index[wrong[0]], column,
                            "is empty" if text == "" else "%r is not a time" % text))
    return times
