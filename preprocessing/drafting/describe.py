"""Looks at data files and drafts a dataset file: ``bash run_estimator.sh describe FILE... --output my.yaml``."""
import argparse
import json
import os
import re
import shlex
import sys
from typing import Dict, List, Sequence

from feature_specs.dataset import LIST_SEPARATOR
from feature_specs.dataset_file import parse_dataset
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text
from feature_specs.outputs import STANDARD
from preprocessing.drafting.column_kinds import Column, name_of
from preprocessing.drafting.examine import choose_time, examine, is_group, is_named_label
from preprocessing.drafting.look import Look, read
from preprocessing.reading.readers import find_inputs

_FEATURE_TYPES = {"numeric": "numeric", "categorical": "categorical", "list": "categorical"}
_TASK_TYPES = {"label": "binary", "target": "regression"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command to a parser."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="CSV (any separator, plain or gzip) or Parquet "
                                                                 "files, directories or quoted patterns [paths] "
                                                                 "(required)")
    parser.add_argument("--output", metavar="FILE",
                        help="dataset file to write; an existing file is not replaced [path] (default: the table only)")
    parser.add_argument("--rows", type=int, default=100000, metavar="N",
                        help="rows to look at, from the beginning of the files (default: %(default)d)")


def run(args: argparse.Namespace) -> None:
    """Prints a table of the columns and writes the draft; what cannot be read or written is a UserError."""
    if args.rows < 1:
        raise ConfigError("rows %d: give at least 1" % args.rows)
    folder = os.path.dirname(os.path.abspath(args.output or ""))
    if args.output and (args.output == STANDARD or not os.path.isdir(folder)):
        raise ConfigError("--output %s: give the name of a file in a directory that is there" % args.output)
    if args.output and os.path.lexists(args.output):
        raise ConfigError("%s exists and is not replaced; give another --output" % args.output)
    look = read(find_inputs(args.files), args.rows)
    columns = examine(look)
    time = choose_time(columns)
    sys.stdout.write("%s: %s%d rows, %d columns\n%s" % (
        ", ".join(look.paths[:3]) + (", ..." if len(look.paths) > 3 else ""), "" if look.is_all else "the first ",
        len(look.frame), len(columns), _table(columns)))
    unclear = ["column %s is left out: %s" % (item.name, item.why) for item in columns if item.kind == "unclear"]
    for line in [*look.warnings, *unclear, *(item.doubt for item in columns if item.doubt)]:
        sys.stdout.write("warning: %s\n" % line)
    flags = [item.name for item in columns
             if item.kind == "categorical" and item.is_flag and set(item.different) != {"1", "2"}]
    if flags:
        sys.stdout.write("yes or no, and taken for features: %s; what is known only afterwards belongs under tasks\n"
                         % ", ".join(flags))
    if args.output:
        text = _draft(look, columns)
        parse_dataset(text, args.output)
        replace_text(args.output, text)
        sys.stdout.write("written: %s; check tasks and features, then: bash run_estimator.sh prepare --dataset %s "
                         "--train_data_path %s --split 0.1 %s--output_path DIR\n" % (
                             args.output, shlex.quote(args.output), " ".join(map(shlex.quote, args.files)),
                             "--split_by_time %s " % shlex.quote(time.name) if time else ""))


def _table(columns: Sequence[Column]) -> str:
    lines = ["%-24s %-12s %9s %8s  %-28s %s\n" % ("column", "proposed", "distinct", "missing", "most frequent", "why")]
    for column in columns:
        frequent = str(column.values.value_counts().index[0]) if len(column.values) else ""
        lines.append("%-24s %-12s %9d %7.1f%%  %-28s %s\n" % (
            column.name[:24], column.kind, len(column.different), 100 * (1 - len(column.values) / len(column.texts)),
            frequent.replace(LIST_SEPARATOR, "|")[:28], column.why))
    return "".join(lines)


def _draft(look: Look, columns: Sequence[Column]) -> str:
    """Returns the text of a dataset file."""
    features = [line for column in columns for line in _feature(column)]
    tasks = [_entry(column, {"type": _TASK_TYPES[column.kind], "column": quoted(column.name)})
             for column in columns if column.kind in _TASK_TYPES]
    following = ["  # %s: {type: regression, column: %s, where: %s}  # if it is to be predicted: %s" % (
        column.key, quoted(column.name), column.follows, column.why) for column in columns if column.follows]
    if all(line.startswith("  #") for line in features):
        raise DataError("%s: no column is left for a feature; write the dataset file by hand: docs/datasets.md"
                        % look.paths[0])
    if not tasks:
        named = ["; %s has %d values (%s)" % (column.name, len(column.different), ", ".join(column.different[:5]))
                 for column in columns if column.kind == "categorical" and is_named_label(column)]
        raise DataError("%s: no column looks like a label (two values, or a number named amount, watch, duration, "
                        "...)%s; write the dataset file by hand: docs/datasets.md"
                        % (look.paths[0], "".join(named[:1])))
    first, has_label = os.path.basename(look.paths[0]), any(column.kind == "label" for column in columns)
    unknown = {text: None for column in columns for text in column.missing}
    missing = {"missing": list(dict.fromkeys([*look.files.get("missing", [""]), *unknown]))} if unknown else {}
    files = ["%s: %s" % (key, json.dumps(value, ensure_ascii=False))
             for key, value in {**look.files, **missing}.items()]
    lines = ["# Drafted from %s%d rows of %s; every key is described in docs/datasets.md." % (
        "" if look.is_all else "the first ", len(look.frame), first),
        "name: %s" % name_of(first.split(".")[0], "data_").rstrip("_"), "files: {%s}" % ", ".join(files)]
    lines += ["features:", *features, "tasks:", *tasks, *following]
    for key, found, why in (
            ("group", [item for item in columns if item.kind == "categorical" and is_group(item)],
             "named like the owner of a row; the AUC within each group is measured too" if has_label else
             "named like the owner of a row; of use with a binary task, whose AUC within each group is measured then"),
            ("weight", [item for item in columns if item.kind == "weight"], "how much a row counts in training"),
            ("row_key", [item for item in columns if item.kind == "key"], "passed through to predictions")):
        lines += ["%s: %s  # %s" % (key, quoted(item.name), why) for item in found[:1]]
    return "\n".join(lines) + "\n"


def _feature(column: Column) -> List[str]:
    """Returns the lines of a column under ``features``; comments where it is none."""
    named = {} if column.key == column.name else {"column": quoted(column.name)}
    if column.kind in _FEATURE_TYPES:
        return [_entry(column, {"type": _FEATURE_TYPES[column.kind], **named})]
    if column.kind == "leak":
        return ["  # left out, put it back if it is known before: %s" % column.why,
                "  # " + _keys(column, {"type": column.keys["type"], **named})]
    is_elsewhere = column.kind in _TASK_TYPES or column.kind == "weight"
    return [] if is_elsewhere else ["  # %s is %s: %s" % (
        column.name, "no feature" if column.kind == "key" else "left out", column.why)]


def _entry(column: Column, keys: Dict[str, str]) -> str:
    return "  %s  # %s" % (_keys(column, keys), column.why)


def _keys(column: Column, keys: Dict[str, str]) -> str:
    items = {**keys, **column.keys}.items()
    return "%s: {%s}" % (column.key, ", ".join("%s: %s" % item for item in items))


def quoted(text: str) -> str:
    """Returns a text as YAML takes it for one."""
    return text if re.match(r"[A-Za-z]\w*\Z", text, re.ASCII) and text.lower() not in (
        "y", "n", "yes", "no", "on", "off", "true", "false", "null") else json.dumps(text, ensure_ascii=False)
