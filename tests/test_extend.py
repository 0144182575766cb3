"""The diffs of docs/extend.md apply to the sources, and what they add works."""
import os
import re
import shutil
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT

PACKAGES = ("estimator_app", "feature_specs", "input_fn", "preprocessing", "rec_sdk_cpu")

# What each addition is held to, in a process whose path begins with the changed copy.
USES = {
    "networks": """
import tensorflow as tf
from estimator_app.config import Config
from estimator_app.model.networks import Inputs, make_network
config = Config(model="omoe", input_layer="sum", expert_num=3)
network = make_network(config, ("a", "b"))
assert network.width == 3 * (16 + 1)
output = network(Inputs(config, tf.ones([5, network.width]), {}, tf.zeros([5, 0])), False)
assert sorted(output.logits) == ["a", "b"] and output.gates["a"] is not None
assert output.gates["a"].shape.as_list() == [5, 3]
""",
    "tasks": """
import numpy as np, tensorflow as tf
from estimator_app.model.tasks import TASK_TYPES
from feature_specs.dataset import TaskDefinition
from feature_specs.manifest import LabelStatistics
task = TASK_TYPES["regression.huber"](TaskDefinition("watch", "w", "regression.huber"), LabelStatistics(2.0, 4.0))
with tf.compat.v1.Session() as session:
    found = session.run(task.loss(tf.constant([0.0, 0.0]), tf.constant([4.0, 22.0])))
assert np.allclose(found, [0.5 * 0.5 ** 2, 5.0 - 0.5]), found
assert task.metric("rmse") == "rmse_watch"
""",
    "pooling": """
import numpy as np, tensorflow as tf
from estimator_app.model.pooling import row_weights
from feature_specs.dataset import CategoricalFeature
from feature_specs.encoding import Field, TableLayout
CategoricalFeature("tags", "tags", separator="|", max_length=4, pooling="sqrtn")
layout = TableLayout("t", 4, 10, 10, (Field("tags", 4, True, "sqrtn"),), (0, 1, 2, 3))
with tf.compat.v1.Session() as session:
    found = session.run(row_weights(tf.constant([[7, 8, 9, 7], [7, 0, 0, 0], [0, 0, 0, 0]], tf.int64), layout))
assert np.allclose(found, [[0.5] * 4, [1, 0, 0, 0], [0] * 4]), found
""",
}


def diffs():
    with open(os.path.join(PROJECT, "docs", "extend.md"), encoding="utf-8") as stream:
        return re.findall(r"```diff\n(.*?)```", stream.read(), re.DOTALL)


@pytest.mark.parametrize("name", sorted(USES))
def test_a_diff_of_the_page_applies_and_works(name, tmp_path):
    found = [diff for diff in diffs() if "/%s.py" % name in diff]
    assert len(found) == 1
    for package in PACKAGES:
        shutil.copytree(os.path.join(PROJECT, package), str(tmp_path / package),
                        ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", "-"], input=found[0], text=True, cwd=str(tmp_path), check=True,
                   env=dict(os.environ, GIT_CEILING_DIRECTORIES=str(tmp_path.parent)))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", USES[name]], cwd=str(tmp_path), capture_output=True,
                          text=True, env=dict(os.environ, PYTHONPATH=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3"))
    assert done.returncode == 0, done.stderr


def test_every_addition_touches_the_files_that_the_page_names():
    touched = [sorted(set(re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE))) for diff in diffs()]
    assert touched == [["estimator_app/model/networks.py"], ["estimator_app/model/tasks.py"],
                       ["estimator_app/model/pooling.py", "feature_specs/dataset.py"]]
