"""Which rows of one set of files are for testing: by chance, by the hash of a column, or the last part of a time."""
import dataclasses
from typing import Any, Callable

import numpy as np
import pandas as pd

from feature_specs.errors import DataError
from preprocessing.reading.readers import FrameReader
from preprocessing.reading.times import times_of_texts
from preprocessing.statistics import mix

_RANGE = 1 << 32


@dataclasses.dataclass(frozen=True)
class RowSplit:
    """How one set of files is split: ``share`` of the rows (0: none) is for testing, by chance.

    Rows with the same value of ``by_column`` stay together; of ``by_time`` the greatest values are for testing.
    """

    share: float = 0.0
    by_column: str = ""
    by_time: str = ""


def test_rows(split: RowSplit, seed: int, reader: FrameReader, is_test: bool) -> Callable[[pd.DataFrame], np.ndarray]:
    """Returns what tells the rows for testing, or the others: raw frame of n rows -> bool [n].

    A split by time reads the files once, to find where the last part begins.

    Raises:
        DataError: a time cannot be read.
    """
    if split.by_time:
        times = np.sort(np.concatenate([times_of(frame, split.by_time) for frame in reader]))
        count = int(round(split.share * len(times)))
        first = times[-count] if count else np.inf
        return lambda frame: (times_of(frame, split.by_time) >= first) == is_test
    limit = np.uint64(round(split.share * _RANGE))

    def takes(frame: pd.DataFrame) -> np.ndarray:
        if split.by_column:
            column: Any = frame[split.by_column].array
            hashes = pd.util.hash_array(column.categories.to_numpy(object))[column.codes]
        else:
            # The row's place decides, so that blocks do not matter.
            path = pd.util.hash_array(np.array([frame.attrs["path"].rsplit("/", 1)[-1]], object))[0]
            hashes = mix(frame.index.to_numpy().astype(np.uint64) ^ path)
        return (mix(hashes ^ np.uint64(seed)) % np.uint64(_RANGE) < limit) == is_test

    return takes


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
