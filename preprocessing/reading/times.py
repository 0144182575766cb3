"""Times as texts: numbers, or dates such as 2024-05-31, 2024-05-31 12:30:00 or 2024-05-31T12:30:00+02:00."""
import contextlib
from typing import Optional, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A time of day with an offset at its end.
_ZONE = r"\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"


def times_of_texts(texts: Sequence[str]) -> np.ndarray:
    """Returns float64 [n], NaN for a text that is neither a number nor a date or time."""
    array = pa.array(texts, pa.string())
    with contextlib.suppress(pa.ArrowInvalid):
        return array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    times = np.full(len(texts), np.nan)
    zoned = pc.match_substring_regex(array, _ZONE).to_numpy(zero_copy_only=False)
    for is_chosen, zone in ((zoned, "UTC"), (~zoned, None)):
        times[is_chosen] = _timestamps(array.filter(pa.array(is_chosen)), zone)
    return times


def _timestamps(array: pa.Array, zone: Optional[str]) -> np.ndarray:
    for unit, ticks in (("us", 1e6), ("ns", 1e9)):  # digits below a microsecond do not fit the first one
        with contextlib.suppress(pa.ArrowInvalid):
            return array.cast(pa.timestamp(unit, zone)).cast(pa.int64()).to_numpy(zero_copy_only=False) / ticks
    # At least one is no time: this is said of it, so that speed does not matter.
    return np.array([np.nan]) if len(array) == 1 else np.concatenate(
        [_timestamps(array[place:place + 1], zone) for place in range(len(array))])
