"""The report and the TensorBoard files of runs, from entries made by hand."""
import glob
import json
import re

import pytest
import tensorflow as tf

from estimator_app.model_dir import history
from estimator_app.training import report
from estimator_app.training.gate_summaries import histogram, write_gate_histograms

GATES = {"gate_entropy_a": 0.25, "gate_largest_a": 0.995, "gate_weight_a_0": 0.995, "gate_weight_a_1": 0.005,
         "expert_use_a_0": 1.0, "expert_use_a_1": 0.0, "expert_difference": 0.5,
         "gate_histogram_a": [5.0, 0.0, 0.0, 3.0]}
RELIABILITY = {"reliability_a": [[0.1, 0.0, 0.9], [0.2, 0.0, 0.8], [4.0, 0.0, 4.0]]}


def evaluation(step, **values):
    return dict({"global_step": step, "examples": 8, "mean_loss": 0.5, "auc_a": 0.75, "pr_auc_a": 0.5,
                 "log_loss_a": 0.5, "calibration_a": 1.0}, **values)


def written(path, *entries):
    for entry in entries:
        history.append(str(path), history.EVALUATION, entry)
    with open(report.write_report(str(path), ("a",)), encoding="utf-8") as stream:
        return stream.read()


def test_gates_warnings_and_reliability_are_shown(tmp_path):
    html = written(tmp_path, evaluation(5, auc_a=0.8), evaluation(9, **GATES, **RELIABILITY))
    assert "Warning, last evaluation: the gate of task a gives one expert 99.5 % of the weight" in html
    assert "0.99 / 1.00" in html or "1.00 / 1.00" in html
    assert "Best auc_a: 0.80000 at step 5" in html
    titles = re.findall('alt="([^"]*)"', html)
    assert "Reliability of a, last evaluation" in titles and "Experts of a, last evaluation" in titles
    assert "<th>pr_auc_a</th>" in html and "weighted" not in html


def test_weighted_scores_get_columns_and_older_rows_stay(tmp_path):
    html = written(tmp_path, {"global_step": 3, "mean_loss": 0.7}, evaluation(9, weighted_auc_a=0.625))
    assert "<th>weighted_auc_a</th>" in html and "0.62500" in html and "0.70000" in html


def test_without_gates_and_without_evaluations(tmp_path):
    (tmp_path / "none").mkdir()
    assert "Gates and experts" not in written(tmp_path, evaluation(5)) and "Warning" not in written(tmp_path)
    assert "Evaluations: 0" in written(tmp_path / "none")


def test_histograms_reach_the_event_files(tmp_path):
    metrics = dict(evaluation(7), **GATES)
    write_gate_histograms(str(tmp_path), metrics)
    found = [(event.step, value.tag, value.histo) for path in glob.glob(str(tmp_path / "eval" / "events*"))
             for event in tf.compat.v1.train.summary_iterator(path) for value in event.summary.value]
    assert [item[:2] for item in found] == [(7, "gate_weights/a")]
    assert list(found[0][2].bucket) == [5.0, 0.0, 0.0, 3.0]


def test_a_histogram_of_counts():
    proto = histogram([5, 0, 0, 3])
    assert (proto.num, proto.min, proto.max) == (8, 0.0, 1.0)
    assert list(proto.bucket_limit) == [0.25, 0.5, 0.75, 1.0]
    assert proto.sum == pytest.approx(5 * 0.125 + 3 * 0.875)
    assert histogram([0, 0]).num == 0
    assert json.dumps(list(proto.bucket)) == "[5.0, 0.0, 0.0, 3.0]"
