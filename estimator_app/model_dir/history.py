"""``metrics.jsonl``: one JSON line per progress report, evaluation and repaired fault of a run."""
import json
import os
from typing import Any, Dict, List

from estimator_app.model_dir.directory import METRICS_FILE
from feature_specs.errors import UserError
from feature_specs.files import named_errors, replace_text

FORMAT_VERSION = 1

TRAIN, EVALUATION, CORRUPT_RECORDS, ROLLBACK = "train", "eval", "corrupt_records", "rollback"


def append(model_dir: str, kind: str, values: Dict[str, Any]) -> None:
    """Appends a line.

    Args:
        model_dir: the model directory.
        kind: ``train``, ``eval``, ``corrupt_records`` or ``rollback``.
        values: JSON-ready; holds ``global_step``.
    """
    path = os.path.join(model_dir, METRICS_FILE)
    line = json.dumps(dict(values, kind=kind), sort_keys=True) + "\n"
    if not os.path.isfile(path):
        line = _heading() + line
    with named_errors(path), open(path, "a", encoding="utf-8") as stream:
        stream.write(line)


def read(model_dir: str) -> List[Dict[str, Any]]:
    """Returns all lines in order; a last line that was cut off is left out.

    Raises:
        UserError: the file has another format.
    """
    path = os.path.join(model_dir, METRICS_FILE)
    if not os.path.isfile(path):
        return []
    entries = []
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                # Only an interrupted append leaves a line that is no JSON.
                continue
            if isinstance(entry, dict) and entry.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
                raise UserError("%s has format version %r; this program reads version %d" % (
                    path, entry["format_version"], FORMAT_VERSION))
            if isinstance(entry, dict) and isinstance(entry.get("global_step"), int):
                entries.append(entry)
    return entries


def cut_after(model_dir: str, step: int) -> None:
    """Drops the lines beyond a step: they belong to work that a restart repeats."""
    path = os.path.join(model_dir, METRICS_FILE)
    if not os.path.isfile(path):
        return
    kept = [entry for entry in read(model_dir) if entry["global_step"] <= step]
    replace_text(path, _heading() + "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in kept))


def _heading() -> str:
    """Returns the first line of the file: its format version, without a step and so no entry."""
    return json.dumps({"format_version": FORMAT_VERSION}) + "\n"
