"""``report.html``: scores and losses of a run in one file that needs no network."""
import base64
import io
import os
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from estimator_app.model.metrics import WEIGHTED_PREFIX, collapse_warnings
from estimator_app.model.tasks import AUC_MEAN, MEAN_LOSS, TaskSet
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import REPORT_FILE, SETTINGS_FILE
from feature_specs.files import replace_text

_SMOOTHING = 0.9
_TEMPLATE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "report.html")


def complete_report(model_dir: str, tasks: TaskSet) -> None:
    """Writes the report of a run that was interrupted before it: where it is missing or older than the history."""
    report, metrics = (os.path.join(model_dir, name) for name in (REPORT_FILE, history.METRICS_FILE))
    if os.path.isfile(metrics) and not (
            os.path.isfile(report) and os.stat(report).st_mtime_ns >= os.stat(metrics).st_mtime_ns):
        write_report(model_dir, tasks)


def written(model_dir: str) -> str:
    """Returns the line that names what a training has written."""
    return "model directory %s, report %s\n" % (model_dir, os.path.join(model_dir, REPORT_FILE))


def write_report(model_dir: str, tasks: TaskSet) -> None:
    """Writes the report of a model directory from its ``metrics.jsonl``."""
    # The template library costs a part of the start-up, which only the end of a run pays.
    import jinja2

    entries = history.read(model_dir)
    evaluations = history.evaluations_among(entries)
    scores = tasks.score_names()
    known = {name for entry in evaluations for name in entry}
    columns = [name for name in ["global_step", "examples", MEAN_LOSS, AUC_MEAN] + scores + [
        WEIGHTED_PREFIX + name for name in scores] if name in known]
    borders = [entry["global_step"] for entry in entries if entry["kind"] == history.DATA]
    settings = os.path.join(model_dir, SETTINGS_FILE)
    html = jinja2.Environment(autoescape=True).from_string(_text(_TEMPLATE_FILE)).render(
        model_dir=model_dir, written=time.strftime("Written %Y-%m-%d %H:%M:%S UTC", time.gmtime()), rows=evaluations,
        warnings=collapse_warnings(evaluations[-1]) if evaluations else [], columns=columns,
        whole=("global_step", "examples"), borders=borders, best=checkpoints.read_best(model_dir),
        settings=_text(settings) if os.path.isfile(settings) else "",
        figures=_figures(entries, evaluations, borders, tasks))
    replace_text(os.path.join(model_dir, REPORT_FILE), html)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _figures(entries: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]],
             borders: Sequence[int], tasks: TaskSet) -> List[Dict[str, str]]:
    """Returns {"title", "data"} of every figure: the main scores on one scale, the losses, the speed."""
    # Costs a part of the start-up, as above.
    import pandas

    training = [entry for entry in entries if entry["kind"] == history.TRAIN]
    # Running means that forget; the first ones are means of what there is.
    smoothed = pandas.Series(dict(_points(training, "loss")), dtype=float).ewm(alpha=1.0 - _SMOOTHING).mean()
    scores, losses = ([(name, _points(evaluations, name)) for name in tasks.main_scores()
                       if tasks.is_loss(name) == is_loss] for is_loss in (False, True))
    made = [*([("Scores", scores)] if scores else []), *([("Errors, lower is better", losses)] if losses else []),
            ("Loss", [("training, smoothed", list(smoothed.items())), ("evaluation", _points(evaluations, MEAN_LOSS))]),
            ("Training speed, examples/s", [("training", _points(training, "examples_per_second"))])]
    return [_curves(title, series, borders) for title, series in made]


def _points(entries: Sequence[Mapping[str, Any]], name: str) -> List[Tuple[int, float]]:
    return [(entry["global_step"], entry[name]) for entry in entries if entry.get(name) is not None]


def _curves(title: str, series: Sequence[Tuple[str, Sequence[Tuple[int, float]]]], borders: Sequence[int]
            ) -> Dict[str, str]:
    """Draws a figure; ``borders`` are the steps after which other data was trained and evaluated."""
    # The plot library costs a second of start-up, which only the end of a run pays.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    for name, points in series:
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3, label=name)
    for number, step in enumerate(borders):
        axes.axvline(step, color="gray", linestyle=":", label="_" if number else "other data")
    if any(points for _, points in series):
        axes.legend()
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.grid(True, alpha=0.3)
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return {"title": title, "data": base64.b64encode(data.getvalue()).decode("ascii")}
