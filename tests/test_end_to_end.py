"""The main job on real data through the real commands: text in; AUC, scores and a SavedModel out."""
import json
import os

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from feature_specs.dataset_file import load_dataset
from tests.support.cli_runner import run_app

pytestmark = [pytest.mark.realdata, pytest.mark.long]
CENSUS = load_dataset("census").definition


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    raw = os.environ.get("CENSUS_KDD_DIR")
    if not raw or not os.path.isdir(raw):
        pytest.skip("CENSUS_KDD_DIR does not name the folder of the real census files")
    root = tmp_path_factory.mktemp("census")
    test_file = os.path.join(raw, "census-income.test.gz")
    run_app("prepare", "--train_data_path", os.path.join(raw, "census-income.data.gz"), "--test_data_path", test_file,
            "--output_path", "data", cwd=root)
    run_app("train", "--data_dir", "data", "--model_dir", "model", "--train_epoch", "2", cwd=root, timeout=600)
    return root, test_file, json.loads(run_app("eval", "--model_dir", "model", cwd=root).stdout.splitlines()[-1])


def test_two_epochs_reach_a_level_that_noise_does_not_cross(run):
    _, _, result = run
    assert result["examples"] == 16627 and result["global_step"] == 2 * (66508 // 512)
    assert result["auc_income"] > 0.935
    assert result["auc_marital"] > 0.990


def test_predictions_agree_with_the_evaluation(run):
    root, test_file, result = run
    run_app("predict", "--model_dir", "model", "--input", test_file, "--output", "p.csv", cwd=root)
    scores = pd.read_csv(str(root / "p.csv"))
    assert list(scores.columns) == ["income", "marital"] and len(scores) == 16627
    raw = pd.read_csv(test_file, header=None, names=CENSUS.files.columns, skipinitialspace=True)
    for task in CENSUS.tasks:
        expected = roc_auc_score(raw[task.column].isin(task.positive), scores[task.name])
        assert result["auc_" + task.name] == pytest.approx(expected, abs=1e-4)


def test_the_export_passes_its_own_check(run):
    root, _, _ = run
    assert "/model/export/1" in run_app("export", "--model_dir", "model", cwd=root).stdout
    card = json.loads((root / "model" / "export" / "1" / "model_card.json").read_text())
    assert card
