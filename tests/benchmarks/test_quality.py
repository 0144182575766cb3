import json

import pytest

from benchmarks import quality
from tests.estimator_app.serving.serving_models import make_model

RUNS = [{"seed": seed, "auc_a": value, "auc_b": 0.9, "loss": 0.3, "seconds": 4.0}
        for seed, value in ((1, 0.94), (2, 0.96))]


def test_summary_is_mean_and_spread():
    found = quality.summary(RUNS)
    assert sorted(found) == ["auc_a", "auc_b", "seconds"]
    assert found["auc_a"]["mean"] == pytest.approx(0.95)
    assert found["auc_a"]["spread"] == pytest.approx(0.0141421, abs=1e-6)
    assert quality.summary(RUNS[:1])["auc_a"]["spread"] == 0.0


def test_means_below_their_bounds_fail():
    found = quality.summary(RUNS)
    assert quality.failures(found, {"auc_a": 0.95, "auc_b": 0.9}) == []
    assert quality.failures(found, {"auc_a": 0.951}) == ["auc_a: mean 0.95000 is below 0.95100"]
    assert "auc_c: mean nan" in quality.failures(found, {"auc_c": 0.5})[0]


def test_parameters_are_those_of_the_network(tmp_path):
    config, manifest, _ = make_model(str(tmp_path), expert_num=2, expert_size=3, tower_size=4, dense_bins=0)
    tasks, dense, width = 3, 2, 2 * 3 + 3 * 2
    towers = tasks * ((3 * 4 + 4) + (4 * 2 + 2))
    found = quality.parameters(config.model_dir)
    # Every id of the vocabularies and their out-of-vocabulary ids that training met has a row.
    rows, rest = divmod(found - (dense + 1) * width - towers, width)
    assert rest == 0 and 0 < rows <= manifest.num_ids()


@pytest.mark.parametrize("bound, status", [(0.95, 0), (0.96, 1)])
def test_the_exit_status_is_the_verdict(tmp_path, monkeypatch, capsys, bound, status):
    path = tmp_path / "baselines.json"
    path.write_text(json.dumps({"least": {"auc_a": bound}, "commit": "abc", "command": "bench"}))
    monkeypatch.setattr(quality, "measure", lambda source, seeds, flags, threads: RUNS)
    assert quality.main(["--source", str(tmp_path), "--baselines", str(path)]) == status
    printed = capsys.readouterr()
    assert json.loads(printed.out)["passed"] == (status == 0)
    assert ("failed: auc_a" in printed.err) == (status == 1)


def test_without_data_it_says_what_to_give(monkeypatch, capsys):
    assert quality.main(["--source", ""]) == 2
    assert "CENSUS_KDD_DIR" in capsys.readouterr().err


def test_recorded_baselines_are_complete():
    with open(quality.BASELINES, encoding="utf-8") as stream:
        recorded = json.load(stream)
    assert set(recorded) == {"commit", "command", "data", "seeds", "mean", "spread", "least"}
    assert all(recorded["least"][name] < recorded["mean"][name] for name in recorded["least"])
