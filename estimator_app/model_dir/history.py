"""``metrics.jsonl``: one JSON line per progress report and evaluation of a run."""
import json
import math
import os
import shutil
from typing import Any, Dict, List, Mapping, Optional, Tuple

from feature_specs.checks import is_finite, is_whole
from feature_specs.errors import UserError
from feature_specs.files import free_path, named_errors, refuse_directory, replace_text

METRICS_FILE = "metrics.jsonl"
FORMAT_VERSION = 1
#: The first line of the file, without a step and so no entry.
_HEADING = '{"format_version": %d}\n' % FORMAT_VERSION

#: Kinds of lines: a progress report, an evaluation, the begin of a stage on other data.
TRAIN, EVALUATION, DATA = "train", "eval", "data"


def append(model_dir: str, kind: str, values: Mapping[str, Any]) -> None:
    """Appends a line of a kind; ``values`` are JSON-ready and hold ``global_step``."""
    path = os.path.join(model_dir, METRICS_FILE)
    line = _line(dict(values, kind=kind))
    with named_errors(path), open(path, "ab+") as stream:
        if stream.tell() == 0:
            line = _HEADING + line
        else:
            # What an interrupted append left of a line must not swallow this one.
            stream.seek(-1, os.SEEK_END)
            line = line if stream.read(1) == b"\n" else "\n" + line
        stream.write(line.encode("utf-8"))


def read(model_dir: str) -> List[Dict[str, Any]]:
    """Returns all sound lines in order; UserError where the file has another format."""
    return _parse(os.path.join(model_dir, METRICS_FILE))[0]


def evaluations(model_dir: str) -> List[Dict[str, Any]]:
    """Returns the evaluations in order of their steps, one per step."""
    return evaluations_among(read(model_dir))


def evaluations_among(lines: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Returns the evaluations among the lines of a history, as :func:`evaluations` does."""
    by_step = {entry["global_step"]: entry for entry in lines if entry["kind"] == EVALUATION}
    return [by_step[step] for step in sorted(by_step)]


def evaluations_on_latest_data(model_dir: str) -> List[Dict[str, Any]]:
    """Returns the evaluations on the data that was evaluated last: figures of other rows do not compare."""
    lines = read(model_dir)
    entries = evaluations_among(lines)
    begins = [entry["global_step"] for entry in lines if entry["kind"] == DATA]
    later = ([entry for entry in entries if entry["global_step"] > begin] for begin in reversed(begins))
    return next(filter(None, later), entries)


def best_of(entries: List[Dict[str, Any]], metric: str, lower_is_better: bool) -> Optional[Dict[str, Any]]:
    """Returns the first evaluation whose metric no other one exceeds; None where none has the metric."""
    defined = [entry for entry in entries if entry.get(metric) is not None]
    return (min if lower_is_better else max)(defined, key=lambda entry: entry[metric]) if defined else None


def repair(model_dir: str, step: int, damaged_folder: str) -> Optional[str]:
    """Leaves out damaged lines, and those beyond the step that a run continues from: a restart repeats that work.
    Returns what was damaged and where in ``damaged_folder`` the original is kept, or None."""
    path = os.path.join(model_dir, METRICS_FILE)
    refuse_directory(path)
    if not os.path.isfile(path):
        return None
    entries, damaged = _parse(path)
    warning = None
    if damaged:
        os.makedirs(damaged_folder, exist_ok=True)
        original = free_path(os.path.join(damaged_folder, METRICS_FILE))
        shutil.copy2(path, original)
        warning = ("%s: %d damaged lines are left out, of %d; the original is %s"
                   % (path, damaged, len(entries) + damaged, original))
    text = _HEADING + "".join(_line(entry) for entry in entries if entry["global_step"] <= step)
    with open(path, "rb") as stream:
        found = stream.read()
    if found != text.encode("utf-8"):
        replace_text(path, text)
    return warning


def _parse(path: str) -> Tuple[List[Dict[str, Any]], int]:
    """Returns the sound lines and the number of damaged ones; an unfinished last line is neither."""
    entries: List[Dict[str, Any]] = []
    damaged = 0
    if not os.path.isfile(path):
        return entries, damaged
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                damaged += line.endswith("\n")
                continue
            if isinstance(entry, dict) and "format_version" in entry:
                if entry["format_version"] != FORMAT_VERSION:
                    raise UserError("%s has format version %r; this program reads version %d" % (
                        path, entry["format_version"], FORMAT_VERSION))
            elif _is_sound(entry):
                entries.append(entry)
            else:
                damaged += 1
    return entries, damaged


def _is_sound(entry: Any) -> bool:
    """Returns whether a line has kind and step, and for all figures of a report or an evaluation null or a number that
    a float holds."""
    if not (isinstance(entry, dict) and isinstance(entry.get("kind"), str) and is_whole(entry.get("global_step"))):
        return False
    return entry["kind"] not in (TRAIN, EVALUATION) or all(
        value is None or is_finite(value) for name, value in entry.items() if name != "kind")


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(plain(entry), sort_keys=True) + "\n"


def plain(value: Any) -> Any:
    """Returns JSON-ready data: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
