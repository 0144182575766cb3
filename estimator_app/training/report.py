"""``report.html``: scores and losses of a run in one file that needs no network."""
import base64
import io
import os
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from estimator_app.model.metrics import WEIGHTED_PREFIX, collapse_warnings
from estimator_app.model.tasks import MEAN_LOSS, TaskSet
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import REPORT_FILE, SETTINGS_FILE
from feature_specs.files import replace_text

_SMOOTHING = 0.9
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Training report</title><style>
body{font-family:sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}
th{background:#f2f2f2}img{max-width:100%}tr.best td{background:#e8f5e9}
pre{background:#f7f7f7;padding:1rem;overflow:auto}.wide{overflow-x:auto}
.warning{background:#fff3cd;border-left:4px solid #c77700;padding:.5rem 1rem}
</style></head><body>
<h1>Training report</h1>
<p>{{ written }}. Evaluations: {{ rows|length }}.
{% if best %}Best {{ best.metric }}: {{ "%.5f"|format(best.value) }} at step {{ best.step }}.{% endif %}</p>
{% for line in warnings %}<p class="warning">Warning, last evaluation: {{ line }}</p>
{% endfor %}
{% for figure in figures %}<p><img alt="{{ figure.title }}" src="data:image/png;base64,{{ figure.data }}"></p>
{% endfor %}
<h2>Evaluations</h2>
<div class="wide"><table><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr{% if best and row.global_step == best.step %} class="best"{% endif %}>
{% for name in columns %}<td>{% if row.get(name) is none %}n/a{% else %}{{ "%d"|format(row[name]) if name in whole
else "%.5f"|format(row[name]) }}{% endif %}</td>
{% endfor %}</tr>{% endfor %}</table></div>
<h2>Settings, stage by stage</h2><pre>{{ settings }}</pre>
</body></html>
"""


def complete_report(model_dir: str, tasks: TaskSet) -> None:
    """Writes the report of a run that was interrupted before it: where it is missing or older than the history."""
    report, metrics = (os.path.join(model_dir, name) for name in (REPORT_FILE, history.METRICS_FILE))
    if os.path.isfile(metrics) and not (
            os.path.isfile(report) and os.stat(report).st_mtime_ns >= os.stat(metrics).st_mtime_ns):
        write_report(model_dir, tasks)


def write_report(model_dir: str, tasks: TaskSet) -> str:
    """Writes the report of a model directory from its ``metrics.jsonl`` and returns its path."""
    # The template library costs a part of the start-up, which only the end of a run pays.
    import jinja2

    evaluations = history.evaluations(model_dir)
    training = [entry for entry in history.read(model_dir) if entry["kind"] == history.TRAIN]
    scores = tasks.score_names()
    known = {name for entry in evaluations for name in entry}
    columns = [name for name in ["global_step", "examples", MEAN_LOSS] + scores + [
        WEIGHTED_PREFIX + name for name in scores] if name in known]
    settings = ""
    if os.path.isfile(os.path.join(model_dir, SETTINGS_FILE)):
        with open(os.path.join(model_dir, SETTINGS_FILE), encoding="utf-8") as stream:
            settings = stream.read()
    html = jinja2.Environment(autoescape=True).from_string(_TEMPLATE).render(
        written=time.strftime("Written %Y-%m-%d %H:%M:%S UTC", time.gmtime()), rows=evaluations,
        warnings=collapse_warnings(evaluations[-1]) if evaluations else [], columns=columns,
        whole=("global_step", "examples"), best=checkpoints.read_best(model_dir), settings=settings,
        figures=_figures(training, evaluations, tasks))
    path = os.path.join(model_dir, REPORT_FILE)
    replace_text(path, html)
    return path


def _figures(training: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]],
             tasks: TaskSet) -> List[Dict[str, str]]:
    """Returns {"title", "data"} of every figure: the main scores on one scale, the losses, the speed."""
    losses = _points(training, "loss")
    made = [("Scores", [(name, _points(evaluations, name)) for name in tasks.main_scores()]),
            ("Loss", [("training, smoothed", _smoothed(losses)), ("evaluation", _points(evaluations, MEAN_LOSS))]),
            ("Training speed, examples/s", [("training", _points(training, "examples_per_second"))])]
    return [_curves(title, series) for title, series in made]


def _points(entries: Sequence[Mapping[str, Any]], name: str) -> List[Tuple[int, float]]:
    return [(entry["global_step"], entry[name]) for entry in entries if entry.get(name) is not None]


def _smoothed(points: Sequence[Tuple[int, float]]) -> List[Tuple[int, float]]:
    """Returns running means that forget; the first ones are means of what there is."""
    found: List[Tuple[int, float]] = []
    total = weight = 0.0
    for step, value in points:
        total, weight = _SMOOTHING * total + value, _SMOOTHING * weight + 1.0
        found.append((step, total / weight))
    return found


def _curves(title: str, series: Sequence[Tuple[str, Sequence[Tuple[int, float]]]]) -> Dict[str, str]:
    # The plot library costs a second of start-up, which only the end of a run pays.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    for name, points in series:
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3, label=name)
    if any(points for _, points in series):
        axes.legend()
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.grid(True, alpha=0.3)
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return {"title": title, "data": base64.b64encode(data.getvalue()).decode("ascii")}
