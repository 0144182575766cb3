"""``metrics.jsonl``: one JSON line per progress report, evaluation and repaired fault of a run."""
import json
import os
from typing import Any, Dict, List

from estimator_app.model_directory import METRICS_FILE

TRAIN, EVALUATION, CORRUPT_RECORDS, ROLLBACK = "train", "eval", "corrupt_records", "rollback"


def append(model_dir: str, kind: str, values: Dict[str, Any]) -> None:
    """Appends a line.

    Args:
        model_dir: the model directory.
        kind: ``train``, ``eval``, ``corrupt_records`` or ``rollback``.
        values: JSON-ready; holds ``global_step``.
    """
    line = json.dumps(dict(values, kind=kind), sort_keys=True)
    with open(os.path.join(model_dir, METRICS_FILE), "a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def read(model_dir: str) -> List[Dict[str, Any]]:
    """Returns all lines in order; a last line that was cut off is left out."""
    path = os.path.join(model_dir, METRICS_FILE)
    if not os.path.isfile(path):
        return []
    entries = []
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except ValueError:
                # Only an interrupted append leaves a line that is no JSON.
                continue
            if isinstance(entry, dict) and isinstance(entry.get("global_step"), int):
                entries.append(entry)
    return entries


def cut_after(model_dir: str, step: int) -> None:
    """Drops the lines beyond a step: they belong to work that a restart repeats."""
    path = os.path.join(model_dir, METRICS_FILE)
    if not os.path.isfile(path):
        return
    kept = [entry for entry in read(model_dir) if entry["global_step"] <= step]
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        for entry in kept:
            stream.write(json.dumps(entry, sort_keys=True) + "\n")
    os.replace(path + ".tmp", path)
