"""``report.html``: learning curves and evaluations of a run in one file that needs no network."""
import base64
import io
import os
import time
from typing import Any, Dict, List, Sequence

from estimator_app import checkpoints, history
from estimator_app.metric_names import AUC_PREFIX, LOSS
from estimator_app.model_directory import REPORT_FILE, SETTINGS_FILE

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Training report</title><style>
body{font-family:sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}
th{background:#f2f2f2}img{max-width:100%}tr.best td{background:#e8f5e9}
pre{background:#f7f7f7;padding:1rem;overflow:auto}
</style></head><body>
<h1>Training report</h1>
<p>{{ written }}. Evaluations: {{ rows|length }}.
{% if best %}Best {{ best.metric }}: {{ "%.5f"|format(best.value) }} at step {{ best.step }}.{% endif %}</p>
{% for figure in figures %}<p><img alt="{{ figure.title }}" src="data:image/png;base64,{{ figure.data }}"></p>
{% endfor %}
<h2>Evaluations</h2>
<table><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr{% if best and row.global_step == best.step %} class="best"{% endif %}>
{% for name in columns %}<td>{{ "%d"|format(row[name]) if name in whole else "%.5f"|format(row[name]) }}</td>
{% endfor %}</tr>{% endfor %}</table>
<h2>Settings</h2><pre>{{ settings }}</pre>
</body></html>
"""


def write_report(model_dir: str, tasks: Sequence[str]) -> str:
    """Writes the report of a model directory.

    Args:
        model_dir: with ``metrics.jsonl``.
        tasks: names of the tasks.

    Returns:
        Path of the report.
    """
    # Plot and template libraries cost a second of start-up, which only the end of a run pays.
    import jinja2

    entries = history.read(model_dir)
    evaluations = [entry for entry in entries if entry["kind"] == history.EVALUATION]
    training = [entry for entry in entries if entry["kind"] == history.TRAIN]
    columns = ["global_step", "examples", LOSS] + [AUC_PREFIX + task for task in tasks] + [
        "log_loss_" + task for task in tasks] + ["calibration_" + task for task in tasks]
    settings = ""
    settings_path = os.path.join(model_dir, SETTINGS_FILE)
    if os.path.isfile(settings_path):
        with open(settings_path, encoding="utf-8") as stream:
            settings = stream.read()
    html = jinja2.Environment(autoescape=True).from_string(_TEMPLATE).render(
        written=time.strftime("Written %Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        rows=[row for row in evaluations if all(name in row for name in columns)],
        columns=columns, whole=("global_step", "examples"), best=checkpoints.read_best(model_dir),
        figures=_figures(training, evaluations, tasks), settings=settings)
    path = os.path.join(model_dir, REPORT_FILE)
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        stream.write(html)
    os.replace(path + ".tmp", path)
    return path


def _figures(training: List[Dict[str, Any]], evaluations: List[Dict[str, Any]],
             tasks: Sequence[str]) -> List[Dict[str, str]]:
    figures = []
    losses = [("training", [(row["global_step"], row["loss"]) for row in training if "loss" in row]),
              ("evaluation", [(row["global_step"], row[LOSS]) for row in evaluations if LOSS in row])]
    figures.append(_figure("Loss", "log loss", losses))
    for task in tasks:
        name = AUC_PREFIX + task
        figures.append(_figure("AUC of %s" % task, "AUC", [
            ("evaluation", [(row["global_step"], row[name]) for row in evaluations if name in row])]))
    figures.append(_figure("Training speed", "examples/s", [
        ("training", [(row["global_step"], row["examples_per_second"]) for row in training])]))
    return figures


def _figure(title: str, label: str, series: Sequence[Any]) -> Dict[str, str]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    for name, points in series:
        if points:
            axes.plot([point[0] for point in points], [point[1] for point in points], marker="o", markersize=3,
                      label=name)
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(True, alpha=0.3)
    if any(points for _, points in series):
        axes.legend()
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return {"title": title, "data": base64.b64encode(data.getvalue()).decode("ascii")}
