"""The speed benchmarks run; how fast anything is, is not tested."""
import json
import os
import subprocess
import sys

import pytest

from benchmarks import _harness, all
from estimator_app.parsers import benchmark_purposes


def test_every_speed_benchmark_is_a_command_and_part_of_all():
    assert set(all.NAMES) == set(benchmark_purposes()) - {"all", "peers", "quality", "ranks"}


def _results(name, flags=()):
    output = _harness.run_python(["-m", "estimator_app", "bench", name, "--quick", "--source", ""] + list(flags))
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert results and min(result["benchmark"] == name and result["cores"] >= 1 for result in results)
    compared = [result for result in results if "ratio" in result]
    assert min([result["ours"] > 0 and result["reference"] > 0 for result in compared] or [True])
    # A table only where there is something to compare.
    table = [line for line in output.splitlines() if line.split() == ["ours", "reference", "ratio", "spread", "unit"]]
    assert len(table) == bool(compared) and "DOES NOT HOLD" not in output
    return results


@pytest.mark.long
def test_a_quick_run_prints_json_lines_and_a_table():
    assert [result["dataset"] for result in _results("step", ["--datasets", "census"])] == ["census"]


@pytest.mark.long
@pytest.mark.parametrize("name", all.NAMES)
def test_all_benchmarks_run(name):
    _results(name)


@pytest.mark.long
def test_peers_run_on_the_same_rows():
    try:
        python = _harness.peer_python()
    except _harness.WorkerError as error:
        pytest.skip(str(error))
    try:
        subprocess.run([python, "-c", "import tensorflow"], check=True, capture_output=True)
        subprocess.run([sys.executable, "-W", "ignore", "-c", "import deepctr"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("the packages of requirements-peers.txt are not installed; run setup --peers")
    assert {result["peer"] for result in _results("peers")} == {"keras", "deepctr"}


@pytest.mark.long
def test_a_profile_counts_the_ops_of_a_step():
    found, = _results("step", ["--profile", "--datasets", "census"])
    counts = {kind: count for kind, count, _ in found["ops"]}
    assert counts["IteratorGetNext"] == 1 and counts["ResourceGather"] >= 1
    assert found["nodes"] == pytest.approx(sum(counts.values()), abs=1.0) and found["nodes"] > 100


def test_sides_take_turns_and_the_warm_up_does_not_count():
    order = []

    def side(name, values):
        return lambda: order.append(name) or values.pop(0)

    found = _harness.alternate({"ours": side("a", [9.0, 4.0, 6.0]), "reference": side("b", [1.0, 2.0, 2.0])}, 2)
    assert order == ["a", "b"] * 3 and found == {"ours": [4.0, 6.0], "reference": [2.0, 2.0]}
    result = _harness.compared("x", "rows/s", found, rows=3)
    assert (result["ratio"], result["ratio_least"], result["ratio_most"]) == (2.5, 2.0, 3.0)
    assert (result["ours"], result["ours_best"], result["pairs"], result["rows"]) == (5.0, 6.0, 2, 3)


def test_bounds_say_whether_they_hold(capsys):
    _harness.report_bounds("x", {"ratio": 2.0, "bounds": [["ratio", 2.5, None], ["ratio", None, 2.0],
                                                          ["absent", 1.0, None]]}, [])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(">= 2.5: DOES NOT HOLD") and lines[1].endswith("<= 2: holds")


def test_a_failing_worker_is_told_with_its_message():
    with pytest.raises(_harness.WorkerError, match="exit status 3.*a reason"):
        _harness.run_python(["-c", "import sys; sys.stderr.write('a reason'); sys.exit(3)"])


def test_without_a_python_for_peers_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("TF2_PYTHON", os.path.join(os.sep, "nowhere", "python"))
    with pytest.raises(_harness.WorkerError, match="setup --peers"):
        _harness.peer_python()
