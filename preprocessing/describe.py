"""Looks at data files and drafts a dataset file: ``bash run_estimator.sh describe FILE... --output my.yaml``."""
import argparse
import json
import os
import re
import sys
from typing import List, Sequence

from feature_specs.dataset_file import parse_dataset
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text
from feature_specs.outputs import STANDARD
from preprocessing.examine import Column, examine, name_of, quoted, simple_name
from preprocessing.look import Look, read
from preprocessing.readers import find_inputs

ROWS = 100000
_GROUP = re.compile(r"(user|customer|member|visitor|session)(_?id)?\Z")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command to a parser."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="CSV (any separator, plain or gzip) or Parquet files, "
                                                                 "folders or quoted patterns [paths] (required)")
    parser.add_argument("--output", metavar="FILE",
                        help="dataset file to write; an existing file is not replaced [path] (default: the table only)")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N",
                        help="rows to look at, from the beginning of the files (default: %d)" % ROWS)


def run(args: argparse.Namespace) -> None:
    """Prints a table of the columns and writes the draft.

    Raises:
        DataError: a file cannot be read.
        ConfigError: the output exists, or a number is out of range.
    """
    if args.rows < 1:
        raise ConfigError("rows %d: give at least 1" % args.rows)
    folder = os.path.dirname(os.path.abspath(args.output or ""))
    if args.output and (args.output == STANDARD or not os.path.isdir(folder)):
        raise ConfigError("--output %s: give the name of a file in a directory that is there" % args.output)
    if args.output and os.path.lexists(args.output):
        raise ConfigError("%s exists and is not replaced; give another --output" % args.output)
    look = read(find_inputs(args.files), args.rows)
    columns = examine(look)
    sys.stdout.write("%s: %s%d rows, %d columns\n%s" % (
        ", ".join(look.paths[:3]) + (", ..." if len(look.paths) > 3 else ""), "" if look.is_all else "the first ",
        len(look.frame), len(columns), table(columns)))
    for line in look.warnings:
        sys.stdout.write("warning: %s\n" % line)
    if args.output:
        text = draft(look, columns)
        parse_dataset(text, args.output)
        replace_text(args.output, text)
        sys.stdout.write("written: %s; check the tasks, then: bash run_estimator.sh prepare --dataset %s "
                         "--train_data_path %s --split 0.1 --output_path DIR\n" % (
                             args.output, args.output, " ".join(args.files)))


def table(columns: Sequence[Column]) -> str:
    """Returns a table with a line per column."""
    lines = ["%-24s %-12s %9s %8s  %-28s %s\n" % ("column", "proposed", "distinct", "missing", "most frequent", "why")]
    for column in columns:
        frequent = str(column.values.value_counts().index[0]) if len(column.values) else ""
        lines.append("%-24s %-12s %9d %7.1f%%  %-28s %s\n" % (
            column.name[:24], column.kind, column.distinct, 100 * column.missing,
            frequent.replace("\x1f", "|")[:28], column.why))
    return "".join(lines)


def draft(look: Look, columns: Sequence[Column]) -> str:
    """Returns the text of a dataset file."""
    stem = re.sub(r"\W+", "_", os.path.basename(look.paths[0]).split(".")[0], flags=re.ASCII).strip("_") or "data"
    lines = ["# Drafted from %s%d rows of %s; every key is described in docs/datasets.md." % (
        "" if look.is_all else "the first ", len(look.frame), os.path.basename(look.paths[0])),
        "name: %s" % (stem if stem[0].isalpha() else "data_" + stem),
        "files: %s" % json.dumps(look.files, ensure_ascii=False), "features:"]
    lines[2] = re.sub(r'"(format|header|separator|missing|columns)":', r"\1:", lines[2])
    for column in columns:
        keys = ["type: %s" % ("numeric" if column.kind == "numeric" else "categorical")] + _column_key(column)
        if column.kind == "list":
            if column.separator != "\x1f":
                keys.append("separator: %s" % json.dumps(column.separator))
            keys.append("max_length: %d" % column.max_length)
        if column.kind in ("numeric", "categorical", "list"):
            lines.append("  %s: {%s}  # %s" % (name_of(column.name), ", ".join(keys + column.keys), column.why))
        elif column.kind in ("key", "empty", "time", "unclear"):
            lines.append("  # %s is left out: %s" % (column.name, column.why))
        elif column.kind == "leak":
            lines.append("  # left out, put it back if it is known before: %s\n  # %s: {%s}" % (
                column.why, name_of(column.name), ", ".join(column.keys[-1:] + _column_key(column) + column.keys[:-1])))
    if not any(column.kind in ("numeric", "categorical", "list") for column in columns):
        raise DataError("%s: no column is left for a feature; write the dataset file by hand: docs/datasets.md"
                        % look.paths[0])
    lines.append("tasks:")
    tasks = [column for column in columns if column.kind in ("label", "target")]
    if not tasks:
        raise DataError("%s: no column looks like a label (two values, or a number named amount, watch, duration, "
                        "...); write the dataset file by hand: docs/datasets.md" % look.paths[0])
    for column in tasks:
        keys = ["type: %s" % ("binary" if column.kind == "label" else "regression"),
                "column: %s" % quoted(column.name)]
        lines.append("  %s: {%s}  # %s" % (name_of(column.name), ", ".join(keys + column.keys), column.why))
    groups = [item for item in columns if item.kind == "categorical" and _GROUP.match(simple_name(item.name))]
    for key, found in (("group", groups),
                       ("weight", [item for item in columns if item.kind == "weight"]),
                       ("row_key", [item for item in columns if item.kind == "key"])):
        if found:
            lines.append("%s: %s" % (key, quoted(found[0].name)))
    return "\n".join(lines) + "\n"


def _column_key(column: Column) -> List[str]:
    return [] if name_of(column.name) == column.name else ["column: %s" % quoted(column.name)]
