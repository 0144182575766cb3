"""NPUEstimator on 2 ranks with one model directory, against one rank."""
import glob
import json
import os
import sys

import numpy as np
import pytest

from rec_sdk_cpu.core import checksums, sparse_files
from tests.rec_sdk_cpu.ranks.conftest import launch

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def _run(folder, ranks):
    model_dir, result = os.path.join(folder, "model%d" % ranks), os.path.join(folder, "result%d" % ranks)
    # The second run resumes: the SDK trains once per process.
    for last in ("6", "12"):
        ended = launch([sys.executable, "-m", "tests.rec_sdk_cpu.ranks.estimator_program", model_dir, result, last],
                       ranks, 400)
        assert ended.returncode == 0, ended.stdout
    results = []
    for rank in range(ranks):
        with open("%s.rank%d" % (result, rank)) as stream:
            results.append(json.load(stream))
    return model_dir, results


def test_ranks_share_a_model_directory(tmp_path, ranks_can_run):
    folder = os.path.realpath(str(tmp_path))
    one_dir, (one,) = _run(folder, 1)
    two_dir, two = _run(folder, 2)
    for result in two:
        assert result["step"] == one["step"] == 12
        np.testing.assert_allclose(result["weight"], one["weight"], atol=1e-5)
    np.testing.assert_allclose(np.mean([result["loss"] for result in two]), one["loss"], rtol=1e-5)

    def checkpoints(directory):
        return sorted(os.path.basename(path) for pattern in ("model.ckpt-*", "sparse-model.ckpt-*")
                      for path in glob.glob(os.path.join(directory, pattern)))
    assert checkpoints(two_dir) == checkpoints(one_dir) and len(checkpoints(one_dir)) > 4
    for directory in (one_dir, two_dir):
        assert checksums.problem(os.path.join(directory, "model.ckpt-12")) is None
    tables = [sparse_files.read_table(os.path.join(directory, "sparse-model.ckpt-12"), "table")
              for directory in (one_dir, two_dir)]
    (one_keys, one_rows), (two_keys, two_rows) = tables
    np.testing.assert_array_equal(np.sort(one_keys), np.sort(two_keys))
    np.testing.assert_allclose(one_rows[np.argsort(one_keys)], two_rows[np.argsort(two_keys)], atol=1e-5)
    events = [os.path.basename(path) for path in glob.glob(os.path.join(two_dir, "events.out.tfevents.*"))]
    assert {name.rpartition("_")[2] for name in events} == {"rank0", "rank1"}
    assert not [name for name in os.listdir(two_dir) if name.startswith(".")]
