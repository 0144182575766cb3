"""The figures of ``report.html``, as PNG in base64."""
import base64
import io
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from estimator_app.metric_names import AUC_PREFIX, LOSS, PR_AUC_PREFIX, RELIABILITY_PREFIX
from estimator_app.model.gate_metrics import ENTROPY_PREFIX, USE_PREFIX, WEIGHT_PREFIX

Entries = Sequence[Mapping[str, Any]]


def figures(training: Entries, evaluations: Entries, tasks: Sequence[str]) -> List[Dict[str, str]]:
    """Returns {"title", "data"} of every figure: curves over steps, then reliability and gates at the last evaluation.

    Args:
        training: progress entries of the history.
        evaluations: evaluation entries of the history.
        tasks: names of the tasks.
    """
    made = [_curves("Loss", "log loss", [("training", _points(training, "loss")),
                                         ("evaluation", _points(evaluations, LOSS))])]
    for task in tasks:
        made.append(_curves("AUC of %s" % task, "AUC", [("ROC", _points(evaluations, AUC_PREFIX + task))]))
    made.append(_curves("Area under the precision-recall curve", "average precision", [
        (task, _points(evaluations, PR_AUC_PREFIX + task)) for task in tasks]))
    last = evaluations[-1] if evaluations else {}
    for task in tasks:
        if RELIABILITY_PREFIX + task in last:
            made.append(_reliability(task, last[RELIABILITY_PREFIX + task]))
    entropies = [(task, _points(evaluations, ENTROPY_PREFIX + task)) for task in tasks]
    if any(points for _, points in entropies):
        made.append(_curves("Entropy of the gates (1: all experts weigh the same)", "entropy", entropies))
    for task in tasks:
        weights = expert_values(last, WEIGHT_PREFIX, task)
        if weights:
            made.append(_experts(task, weights, expert_values(last, USE_PREFIX, task)))
    made.append(_curves("Training speed", "examples/s", [("training", _points(training, "examples_per_second"))]))
    return made


def expert_values(metrics: Mapping[str, Any], prefix: str, task: str) -> List[float]:
    """Returns a metric of every expert, ``<prefix><task>_0`` and so on; empty where there are none."""
    values: List[float] = []
    while "%s%s_%d" % (prefix, task, len(values)) in metrics:
        values.append(metrics["%s%s_%d" % (prefix, task, len(values))])
    return values


def _points(entries: Entries, name: str) -> List[Tuple[int, float]]:
    return [(entry["global_step"], entry[name]) for entry in entries if name in entry]


def _curves(title: str, label: str, series: Sequence[Tuple[str, Sequence[Tuple[int, float]]]]) -> Dict[str, str]:
    def draw(axes: Any) -> None:
        for name, points in series:
            if points:
                axes.plot([point[0] for point in points], [point[1] for point in points], marker="o", markersize=3,
                          label=name)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if any(points for _, points in series):
            axes.legend()

    return _figure(title, draw)


def _reliability(task: str, data: Sequence[Sequence[float]]) -> Dict[str, str]:
    predicted, observed, rows = data

    def draw(axes: Any) -> None:
        filled = [number for number, count in enumerate(rows) if count]
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfect")
        axes.plot([predicted[number] for number in filled], [observed[number] for number in filled], marker="o",
                  markersize=3, label="bins of equal numbers of rows")
        axes.set_xlabel("mean predicted probability")
        axes.set_ylabel("observed rate")
        axes.legend()

    return _figure("Reliability of %s, last evaluation" % task, draw)


def _experts(task: str, weights: Sequence[float], uses: Sequence[float]) -> Dict[str, str]:
    def draw(axes: Any) -> None:
        axes.bar([number - 0.2 for number in range(len(weights))], weights, width=0.4, label="mean gate weight")
        axes.bar([number + 0.2 for number in range(len(uses))], uses, width=0.4, label="share of rows where largest")
        axes.set_xlabel("expert (those of all networks counted on)")
        axes.legend()

    return _figure("Experts of %s, last evaluation" % task, draw)


def _figure(title: str, draw: Callable[[Any], None]) -> Dict[str, str]:
    # The plot library costs a second of start-up, which only the end of a run pays.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    draw(axes)
    axes.set_title(title)
    axes.grid(True, alpha=0.3)
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return {"title": title, "data": base64.b64encode(data.getvalue()).decode("ascii")}
