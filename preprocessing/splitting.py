"""Which rows of one set of files are for testing: by chance, by the hash of a column, or the last part of a time."""
from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_specs.errors import DataError
from preprocessing.readers import FrameReader
from preprocessing.statistics import mix

if TYPE_CHECKING:
    from preprocessing.pipeline import RowSplit

_RANGE = 1 << 32


def test_rows(split: "RowSplit", seed: int, reader: FrameReader, is_test: bool) -> Callable[[pd.DataFrame], np.ndarray]:
    """Returns what tells the rows of a split: raw frame of n rows -> bool [n].

    Args:
        split: how rows are shared out.
        seed: of the choice by chance.
        reader: of the files; a split by time reads them once to find where the last part begins.
        is_test: whether the rows for testing are wanted, or the others.

    Raises:
        DataError: a time cannot be read.
    """
    if split.by_time:
        times = np.sort(np.concatenate([times_of(frame, split.by_time) for frame in reader]))
        first = times[len(times) - int(round(split.share * len(times)))] if split.share * len(times) >= 0.5 else np.inf
        return lambda frame: (times_of(frame, split.by_time) >= first) == is_test
    limit = np.uint64(round(split.share * _RANGE))

    def takes(frame: pd.DataFrame) -> np.ndarray:
        if split.by_column:
            column = frame[split.by_column].cat
            hashes = pd.util.hash_array(np.asarray(column.categories, object))[column.codes.to_numpy()]
        else:
            # The row's place decides, so that blocks do not matter.
            path = pd.util.hash_array(np.array([frame.attrs["path"].rsplit("/", 1)[-1]], object))[0]
            hashes = mix(frame.index.to_numpy().astype(np.uint64) ^ path)
        return (mix(hashes ^ np.uint64(seed)) % np.uint64(_RANGE) < limit) == is_test

    return takes


def times_of(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Returns float64 [n]: a column as numbers, or as seconds where it holds dates and times.

    Raises:
        DataError: a value is neither.
    """
    values = frame[column].cat
    return _times(values.categories, "%s: column %s" % (frame.attrs.get("path", ""), column))[values.codes.to_numpy()]


def _times(texts: Sequence[str], where: str) -> np.ndarray:
    array = pa.array(texts, pa.string())
    try:
        return array.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        pass
    try:
        return array.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() / 1e6
    except pa.ArrowInvalid as error:
        raise DataError("%s: %s; --split_by_time needs numbers, or dates such as 2024-05-31 or 2024-05-31 12:30:00"
                        % (where, str(error).splitlines()[0])) from error
