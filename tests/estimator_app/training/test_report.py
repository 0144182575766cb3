"""``report.html`` and the event files of a run."""
import os
import re
from types import SimpleNamespace

from estimator_app.model_dir import checkpoints, history
from estimator_app.training.report import write_report
from tests.support import runs


def test_the_report_shows_every_evaluation_the_best_one_and_all_settings(whole):
    with open(os.path.join(whole.model, "report.html"), encoding="utf-8") as stream:
        text = stream.read()
    best = checkpoints.read_best(whole.model)
    assert "Evaluations: 3." in text and "Best auc_mean: %.5f at step %d" % (best.value, best.step) in text
    rows = re.findall(r"<tr(?: class=\"best\")?>\s*(.*?)</tr>", text, re.S)
    headings = re.findall(r"<th>(.*?)</th>", rows[0])
    for row, entry in zip(rows[1:], runs.recorded(whole.model, "eval")):
        cells = re.findall(r"<td>(.*?)</td>", row)
        assert len(cells) == len(headings)
        for name, cell in zip(headings, cells):
            assert cell == ("%d" if name in ("global_step", "examples") else "%.5f") % entry[name], name
    assert {"auc_click", "pr_auc_click", "log_loss_click", "calibration_click", "mean_loss",
            "auc_mean"} <= set(headings)
    assert len(re.findall(r'class="best"', text)) == 1
    # Figures are in the file itself: it needs no network.
    assert len(re.findall(r'src="data:image/png;base64,[A-Za-z0-9+/=]{1000,}"', text)) == 3
    assert "http" not in text.replace("http-equiv", "")
    for setting in ("learning_rate&#34;: 0.01", "identity&#34;", "tensorflow&#34;", "epochs&#34;: 3"):
        assert "&#34;" + setting in text


def test_event_files_hold_the_curves(whole):
    losses = {entry["global_step"]: entry["loss"] for entry in runs.recorded(whole.model, "train")}
    shown = {step: value for step, tag, value in runs.event_steps(whole.model) if tag == "training/loss"}
    assert sorted(shown) == sorted(losses)
    for step, value in shown.items():
        assert abs(value - losses[step]) < 1e-6


def test_errors_have_a_figure_of_their_own(tmp_path):
    for names, titles in ((("auc_a", "rmse_b"), ["Scores", "Errors, lower is better"]), (("auc_a",), ["Scores"]),
                          (("rmse_b",), ["Errors, lower is better"])):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        history.append(str(folder), history.EVALUATION, dict({"global_step": 1, "mean_loss": 0.5}, **{
            name: 0.7 for name in names}))
        write_report(str(folder), SimpleNamespace(
            main_scores=lambda names=names: list(names), score_names=lambda names=names: list(names),
            is_loss=lambda name: name.startswith("rmse")))
        text = (folder / "report.html").read_text()
        assert re.findall(r'<img alt="(.*?)"', text) == titles + ["Loss", "Training speed, examples/s"]
        assert "Training report of %s" % folder in text
