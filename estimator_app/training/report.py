"""``report.html``: learning curves and evaluations of a run in one file that needs no network."""
import os
import time
from typing import Any, Dict, List, Sequence

from estimator_app.metric_names import (
    AUC_PREFIX,
    CALIBRATION_PREFIX,
    LOG_LOSS_PREFIX,
    LOSS,
    PR_AUC_PREFIX,
    WEIGHTED_PREFIX,
)
from estimator_app.model.gate_metrics import (
    ENTROPY_PREFIX,
    LARGEST_PREFIX,
    USE_PREFIX,
    WEIGHT_PREFIX,
    collapse_warnings,
)
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import REPORT_FILE, SETTINGS_FILE
from estimator_app.training import early_stopping

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
{% if best %}Best {{ best.metric }}: {{ "%.5f"|format(best.value) }} at step {{ best.step }}.{% endif %}
{% for name, found in best_steps|dictsort %}Best {{ name }}: {{ "%.5f"|format(found.value) }} at step {{ found.step }}.
{% endfor %}</p>
{% for line in warnings %}<p class="warning">Warning, last evaluation: {{ line }}</p>
{% endfor %}
{% for figure in figures %}<p><img alt="{{ figure.title }}" src="data:image/png;base64,{{ figure.data }}"></p>
{% endfor %}
{% if gates %}<h2>Gates and experts, last evaluation</h2>
<p>Entropy 1: all experts weigh the same. Experts are numbered over all networks: mean gate weight / share of the rows
in which the expert weighs most within its network.</p>
<div class="wide"><table><tr><th>task</th><th>entropy</th><th>largest mean weight</th>
{% for number in range(gates[0].experts|length) %}<th>{{ number }}</th>{% endfor %}</tr>
{% for gate in gates %}<tr><td>{{ gate.task }}</td><td>{{ "%.3f"|format(gate.entropy) }}</td>
<td>{{ "%.3f"|format(gate.largest) }}</td>
{% for weight, use in gate.experts %}<td>{{ "%.2f / %.2f"|format(weight, use) }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endif %}
<h2>Evaluations</h2>
<div class="wide"><table><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr{% if best and row.global_step == best.step %} class="best"{% endif %}>
{% for name in columns %}<td>{% if name in row %}{{ "%d"|format(row[name]) if name in whole
else "%.5f"|format(row[name]) }}{% endif %}</td>
{% endfor %}</tr>{% endfor %}</table></div>
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
    # The template library costs a part of the start-up, which only the end of a run pays.
    import jinja2

    from estimator_app.training.report_figures import figures
    entries = history.read(model_dir)
    evaluations = [entry for entry in entries if entry["kind"] == history.EVALUATION]
    training = [entry for entry in entries if entry["kind"] == history.TRAIN]
    scores = [prefix + task for prefix in (AUC_PREFIX, PR_AUC_PREFIX, LOG_LOSS_PREFIX, CALIBRATION_PREFIX)
              for task in tasks]
    known = {name for entry in evaluations for name in entry}
    columns = [name for name in ["global_step", "examples", LOSS] + scores + [WEIGHTED_PREFIX + name for name in scores]
               if name in known]
    last = evaluations[-1] if evaluations else {}
    settings = ""
    settings_path = os.path.join(model_dir, SETTINGS_FILE)
    if os.path.isfile(settings_path):
        with open(settings_path, encoding="utf-8") as stream:
            settings = stream.read()
    html = jinja2.Environment(autoescape=True).from_string(_TEMPLATE).render(
        written=time.strftime("Written %Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        rows=evaluations, gates=_gates(last, tasks), warnings=collapse_warnings(last),
        best_steps=early_stopping.best_steps(evaluations, tasks),
        columns=columns, whole=("global_step", "examples"), best=checkpoints.read_best(model_dir),
        figures=figures(training, evaluations, tasks), settings=settings)
    path = os.path.join(model_dir, REPORT_FILE)
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        stream.write(html)
    os.replace(path + ".tmp", path)
    return path


def _gates(metrics: Dict[str, Any], tasks: Sequence[str]) -> List[Dict[str, Any]]:
    """Returns what the table of gates shows of each task that has a gate."""
    from estimator_app.training.report_figures import expert_values
    return [{"task": task, "entropy": metrics[ENTROPY_PREFIX + task], "largest": metrics[LARGEST_PREFIX + task],
             "experts": list(zip(expert_values(metrics, WEIGHT_PREFIX, task),
                                 expert_values(metrics, USE_PREFIX, task)))}
            for task in tasks if ENTROPY_PREFIX + task in metrics]
