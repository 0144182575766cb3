"""Makes raw files in the census format: real column and category names, invented people.

A person belongs to one of four groups, by the two labels; every column then follows the group's shares, which stand in
``census.yaml``. The groups are about as large as in the real data (6 % income above 50,000, 43 % never
married), and a few categories occur in the test file only.
"""
import functools
import os
from typing import Dict, Iterator, List, Tuple

import numpy as np
import yaml

_BLOCK = 50000
#: Shares of the groups, in the order of the numbers in the file.
_GROUPS = (0.517, 0.425, 0.053, 0.005)
_TEXTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "census.yaml")


def blocks(seed: int, number: int, rows: int) -> Iterator[Dict[str, List[str]]]:
    """Yields the rows of a file, the second of which is for testing: {column in file order: a text per row}."""
    random = np.random.RandomState([seed, number])
    for start in range(0, rows, _BLOCK):
        yield make_rows(random, min(_BLOCK, rows - start), is_test=number == 1)


def make_rows(random: np.random.RandomState, rows: int, is_test: bool = False) -> Dict[str, List[str]]:
    """Makes people: {column: a text per row}; ``is_test`` allows the categories that only the test file has."""
    group = random.choice(len(_GROUPS), rows, p=_GROUPS)
    columns = {}
    for name, (texts, bounds, shares, only_test) in _columns().items():
        draws, places = random.random_sample(rows), np.empty(rows, np.int64)
        for number, upto in enumerate(np.cumsum(shares * (is_test | ~only_test), axis=1)):
            members = group == number
            places[members] = np.searchsorted(upto[:-1], draws[members] * upto[-1], side="right")
        found = texts[places]
        if bounds.any():
            low, width = bounds[places].T
            numbers = low + (random.random_sample(rows) * width).astype(np.int64)
            found = np.where(width > 0, numbers.astype(str), found)
        columns[name] = found.tolist()
    return columns


@functools.lru_cache(maxsize=None)
def _columns() -> Dict[str, Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Returns of each column the texts of its n values, int64 [n, 2] least number and how many of a range (0, 0: none),
    float64 [groups, n] shares, bool [n] whether only test files have the value."""
    with open(_TEXTS, encoding="ascii") as stream:
        content = yaml.safe_load(stream)
    found = {}
    for name, values in content.items():
        ranges = [text.split("..") if ".." in text else ("0", "-1") for text in values]
        shares = [numbers if len(numbers) > 1 else numbers * len(_GROUPS) for numbers in values.values()]
        found[name] = (np.array(list(values)), np.array([[int(low), int(high) + 1 - int(low)] for low, high in ranges]),
                       np.array(shares, np.float64).T,
                       np.array([len(numbers) == 1 for numbers in values.values()]))
    return found
