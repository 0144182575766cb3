"""Puts together what the ranks of one run left, and compares two runs."""
import glob
import os
from typing import Dict, List

import numpy as np


def load(folder: str, case: str) -> List[Dict[str, np.ndarray]]:
    """Returns {name: array} of each rank, in the order of the ranks."""
    paths = sorted(glob.glob(os.path.join(folder, "%s.rank*.npz" % case)),
                   key=lambda path: int(path.rpartition("rank")[2][:-len(".npz")]))
    found = []
    for path in paths:
        with np.load(path) as values:
            found.append({name: values[name] for name in values})
    return found


def rows(ranks: List[Dict[str, np.ndarray]], table: str, prefix: str = "") -> Dict[str, Dict[int, np.ndarray]]:
    """Returns {state: {key: row}} of a table; where several ranks hold a key, they must hold the same row."""
    result: Dict[str, Dict[int, np.ndarray]] = {}
    for rank in ranks:
        keys = rank["%s%s/key" % (prefix, table)]
        for name in rank:
            parts = name[len(prefix):].split("/")
            if not name.startswith(prefix) or parts[0] != table or parts[1] in ("key", "size"):
                continue
            state = result.setdefault(parts[1], {})
            for key, row in zip(keys.tolist(), rank[name]):
                if key in state:
                    np.testing.assert_allclose(row, state[key], atol=1e-6, err_msg="copies of key %d" % key)
                state[key] = row
    return result


def histories(ranks: List[Dict[str, np.ndarray]], prefix: str = "") -> Dict[str, Dict[int, tuple]]:
    """Returns {history: {id: (count, time seen last)}}."""
    result: Dict[str, Dict[int, tuple]] = {}
    for rank in ranks:
        for name in rank:
            if name.startswith(prefix + "history"):
                known = result.setdefault(name, {})
                known.update({line[0]: tuple(line[1:]) for line in rank[name].tolist()})
    return result


def assert_same_rows(got: Dict[str, Dict[int, np.ndarray]], expected: Dict[str, Dict[int, np.ndarray]],
                     atol: float) -> None:
    """Fails unless both have the same states, keys and values."""
    assert sorted(got) == sorted(expected)
    for state in expected:
        assert sorted(got[state]) == sorted(expected[state]), state
        for key, row in expected[state].items():
            np.testing.assert_allclose(got[state][key], row, rtol=1e-5, atol=atol, err_msg="%s of %d" % (state, key))
