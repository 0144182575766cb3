import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from feature_specs.errors import DataError
from preprocessing.worker_pool import WorkerPool

PARENT = """
import os, sys, time
from preprocessing.worker_pool import WorkerPool
pool = WorkerPool(lambda item: ({}, os.getpid()), 3)
print(*{pid for _, _, pid in pool.map([b"x"] * 50)}, flush=True)
time.sleep(60)
"""


class Counter:
    """Adds up the numbers it was given in its own process."""

    def __init__(self):
        self.total = 0

    def __call__(self, item):
        self.total += int(item)
        return {}, (int(item), self.total)


def numbers(count):
    return (b"%d" % number for number in range(count))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order_and_each_process_keeps_its_state(workers):
    sums = [0] * workers
    with WorkerPool(Counter(), workers) as pool:
        for expected, (number, _, (item, total)) in enumerate(pool.map(numbers(100))):
            sums[number] += item
            assert item == expected and total == sums[number]
    assert sum(sums) == 4950


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (2 << 20) + 1, 9 << 20])
@pytest.mark.parametrize("workers", [1, 3])
def test_items_and_results_may_have_any_size(workers, size):
    items = [bytes([number]) * (size if number % 3 else 5) for number in range(12)]

    def split(item):
        array = np.frombuffer(item, np.uint8)
        pairs = array[:len(array) // 2 * 2].reshape(-1, 2)[:, ::-1] + 0.5
        return {"all": array, "none": array[:0], "pairs": pairs}, item

    with WorkerPool(split, workers) as pool:
        found = list(pool.map(items))
    assert [rest for _, _, rest in found] == items
    for number, (_, arrays, rest) in enumerate(found):
        assert arrays["all"].tobytes() == rest and arrays["none"].shape == (0,)
        assert arrays["pairs"].shape == (len(rest) // 2, 2) and (arrays["pairs"] == number + 0.5).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_with_its_item(workers):
    def fail(item):
        if item == b"7":
            raise DataError("item 7")
        return {}, int(item)

    found = []
    with WorkerPool(fail, workers) as pool, pytest.raises(DataError, match="item 7"):
        for _, _, result in pool.map(numbers(20)):
            found.append(result)
    assert found == list(range(7))


def test_few_items_are_under_way():
    given = []

    def items():
        for number in range(100):
            given.append(number)
            yield b"%d" % number

    with WorkerPool(lambda item: ({}, int(item)), 2) as pool:
        results = pool.map(items())
        assert next(results)[2] == 0 and len(given) <= 5
        results.close()


def test_a_dead_process_is_one_line():
    with WorkerPool(lambda item: os.kill(os.getpid(), signal.SIGKILL), 2) as pool, \
            pytest.raises(DataError, match="has died.*--num_workers 1"):
        list(pool.map([b"1"]))


def test_no_process_outlives_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    workers = [int(text) for text in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.time() + 30
    while any(_runs(pid) for pid in workers):
        assert time.time() < deadline, "processes %s still run" % workers
        time.sleep(0.02)


def _runs(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
