"""The command line of the preparation: ``bash run_estimator.sh prepare --help``."""
import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
import time
from typing import Any, Callable, Iterator, Mapping, Optional

import pyarrow as pa
import pyarrow.parquet

from feature_specs.checks import parse_number
from feature_specs.dataset import differences
from feature_specs.dataset_file import BUILTIN, DatasetFile, load_dataset
from feature_specs.errors import ConfigError
from feature_specs.manifest import (
    FILE_NAME,
    MODEL_DATA_FOLDER,
    TEST_SPLIT,
    TRAIN_SPLIT,
    Manifest,
    RowSplit,
    read_manifest,
)
from preprocessing.drafting.column_kinds import list_separator
from preprocessing.output_directory import RAW_FOLDER, atomic_directory
from preprocessing.pipeline import VOCAB_CHOICES, Preparation, find_earlier, prepare_in
from preprocessing.reading.bad_rows import BadRowsError
from preprocessing.reading.readers import Reading
from preprocessing.reading.spark import DEFAULT_MASTER
from preprocessing.samples import sample

CENSUS = "census"
OF_THE_CENSUS = ("rows are read as those of the census (describe FILE --output my.yaml drafts a dataset file for "
                 "others)")
ENGINES = ("threads", "spark")
SAMPLE_SEED = 2020
# Values that say whether they are lists; of fewer than a few nothing is said.
_LOOKED_AT, _FEW_VALUES = 1000, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the preparation to a parser."""
    parser.add_argument("--dataset", metavar="FILE|" + "|".join(BUILTIN),
                        help="dataset file (YAML) that describes the columns and tasks, or a built-in one (default: "
                             "that of --sample or --vocabulary_from, else census)")
    parser.add_argument("--output_path", metavar="DIR", required=True,
                        help="directory to make; an earlier preparation there is replaced [path] "
                             "(required)")
    data = parser.add_argument_group("where the data comes from (one of them)")
    data.add_argument("--train_data_path", metavar="FILE", nargs="+",
                      help="training files, directories or quoted patterns [paths] (default: none)")
    data.add_argument("--test_data_path", metavar="FILE", nargs="+",
                      help="test files, directories or quoted patterns [paths] (default: none)")
    data.add_argument("--sample", metavar="|".join(sample.SAMPLES), nargs="?", const=CENSUS, choices=sample.SAMPLES,
                      help="make up data; kept in OUTPUT/raw (default: off; without a name: census)")
    split = parser.add_argument_group("test rows from the training files, instead of --test_data_path")
    split.add_argument("--split", type=parse_number, default=0.0, metavar="SHARE",
                       help="share of the rows to test on, such as 0.1, chosen at random (default: 0)")
    split.add_argument("--split_by", metavar="COLUMN",
                       help="with --split: rows with the same value in this column stay together (default: row by row)")
    split.add_argument("--split_by_time", metavar="COLUMN",
                       help="with --split: test on the rows with the latest dates or greatest numbers (default: at "
                            "random)")
    parser.add_argument("--vocabulary_from", metavar="DIR",
                        help="continue the vocabularies and keep the statistics of this data or model directory; new "
                             "values are appended [path] (default: start anew)")
    parser.add_argument("--max_bad_rows", metavar="N|P%", default="0",
                        help="rows per file that may be left out because they cannot be used [rows, or percent of the "
                             "rows] (default: 0)")
    choices = [",".join(choice) for choice in VOCAB_CHOICES]
    parser.add_argument("--vocabulary_splits", choices=choices, metavar=" | ".join(choices), default=choices[0],
                        help="splits whose values make the vocabulary (default: %(default)s)")
    _add_number(parser, "line_per_sample", 8, "rows packed into one record")
    _add_number(parser, "num_shards", 4, "TFRecord files per split")
    _add_number(parser, "seed", 2020, "seed of the shuffle of the training rows and of --split; whole number")
    _add_number(parser, "num_workers", 0, "threads that read; 0: one per core; the output does not depend on it")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0],
                        help="what reads the files: threads of this machine, or the executors of a Spark cluster "
                             "(setup --spark); the output is the same (default: %(default)s)")
    parser.add_argument("--spark_master", metavar="URL", default=DEFAULT_MASTER,
                        help="cluster of --engine spark, such as spark://host:7077 or yarn (default: %(default)s)")
    parser.add_argument("--sample_train_rows", type=int, metavar="N",
                        help="rows of the made-up training file (default: census 60000, shop 40000)")
    parser.add_argument("--sample_test_rows", type=int, metavar="N",
                        help="rows of the made-up test file (default: census 20000, shop 10000)")
    _add_number(parser, "sample_seed", SAMPLE_SEED, "seed of the made-up data; whole number")


def run(args: argparse.Namespace, dataset: Optional[DatasetFile] = None, tells_next: bool = True) -> Manifest:
    """Prepares the data that the flags name (``dataset``, where it is read already), prints a summary and, with
    ``tells_next``, the next command, and returns the manifest.

    Raises:
        DataError: an input or the output directory cannot be used.
        ConfigError: flags are missing, contradict each other or are out of range.
    """
    _check_sources(args)
    dataset = dataset or dataset_of(args)
    # The files of a sample have names once there is a directory for them.
    draft = Preparation(
        definition=dataset.definition, train_paths=tuple(args.train_data_path or ("",)),
        test_paths=("",) if args.sample else tuple(args.test_data_path or ()), output_path=args.output_path,
        split=RowSplit(args.split, args.split_by or "", args.split_by_time or "", args.seed),
        line_per_sample=args.line_per_sample, num_shards=args.num_shards, seed=args.seed,
        vocabulary_splits=tuple(args.vocabulary_splits.split(",")),
        vocabulary_from=args.vocabulary_from or "", spark_master=args.spark_master if args.engine == "spark" else "",
        reading=Reading(max_bad_rows=args.max_bad_rows, num_workers=args.num_workers, places=dataset.places))
    draft.check()
    earlier = find_earlier(args.vocabulary_from) if args.vocabulary_from else None
    model = _model_that_continues(dataset, args, *earlier) if earlier else "DIR"
    replaces = os.path.isfile(os.path.join(args.output_path, FILE_NAME))
    started = time.perf_counter()
    with atomic_directory(args.output_path) as directory, _progress_bar() as bar:
        draft = dataclasses.replace(draft, reading=dataclasses.replace(draft.reading, progress=bar))
        if args.sample:
            raw = os.path.join(directory, RAW_FOLDER)
            os.mkdir(raw)
            paths = sample.write_sample(args.sample, raw, args.sample_train_rows, args.sample_test_rows,
                                        args.sample_seed)
            draft = dataclasses.replace(draft, train_paths=paths[:1], test_paths=paths[1:])
        read_from = time.perf_counter()
        try:
            manifest = prepare_in(draft, directory)
        except BadRowsError as error:
            if args.dataset or args.sample or args.vocabulary_from:
                raise
            raise BadRowsError("without --dataset %s: %s" % (OF_THE_CENSUS, error)) from error
        read_seconds = time.perf_counter() - read_from
    _print_summary(manifest, args, earlier[1] if earlier else None, read_seconds, time.perf_counter() - started)
    then = "; then: bash run_estimator.sh train %s--data_dir %s --model_dir %s" % (
        "--continue_on " * bool(earlier), shlex.quote(args.output_path), model) if tells_next and model else ""
    sys.stdout.write("written: %s%s%s\n" % (
        args.output_path, ", in place of the data that was prepared there before" if replaces else "", then))
    return manifest


def dataset_of(args: argparse.Namespace) -> DatasetFile:
    """Returns the dataset that parsed flags name."""
    if args.vocabulary_from and not args.dataset:
        folder, manifest = find_earlier(args.vocabulary_from)
        return DatasetFile(manifest.dataset, folder, {})
    return load_dataset(args.dataset or args.sample or CENSUS)


def _model_that_continues(dataset: DatasetFile, args: argparse.Namespace, folder: str, earlier: Manifest) -> str:
    """Returns the model directory that ``--vocabulary_from`` names, ``DIR`` where it names data, nothing where no model
    continues, which it tells; refuses to replace the very data that a model was trained on."""
    if (os.path.basename(folder) == MODEL_DATA_FOLDER and os.path.isfile(os.path.join(args.output_path, FILE_NAME))
            and read_manifest(args.output_path).identity() == earlier.identity()):
        raise ConfigError("%s holds the data that the model in %s was trained on, which it needs to resume; give "
                          "another --output_path" % (args.output_path, args.vocabulary_from))
    lines = differences(dataset.definition, earlier.dataset, files=False)
    if lines:
        sys.stdout.write("warning: the dataset is not that of %s (%s): a model of that data does not continue on this; "
                         "a new one takes over what fits with train --warm_start_from\n"
                         % (args.vocabulary_from, "; ".join(lines[:3])))
        return ""
    return "DIR" if folder == args.vocabulary_from else shlex.quote(args.vocabulary_from)


def _add_number(parser: argparse.ArgumentParser, name: str, default: int, text: str) -> None:
    parser.add_argument("--" + name, type=int, default=default, metavar="N", help="%s (default: %d)" % (text, default))


def _check_sources(args: argparse.Namespace) -> None:
    for flag in ("vocabulary_from", "split_by", "split_by_time"):
        if getattr(args, flag) == "":
            raise ConfigError("--%s is empty; leave it out, or look whether a variable is unset" % flag)
    if args.test_data_path and not args.train_data_path:
        raise ConfigError("--test_data_path goes with --train_data_path; give both")
    if bool(args.train_data_path) == bool(args.sample):
        raise ConfigError("%s given; give one of --train_data_path with --test_data_path or --split, --sample"
                          % ("--train_data_path and --sample" if args.sample else "no data"))
    if args.split and args.sample:
        raise ConfigError("--split goes with --train_data_path")
    if args.engine != ENGINES[1] and args.spark_master != DEFAULT_MASTER:
        raise ConfigError("--spark_master goes with --engine spark")
    if not args.sample and (args.sample_train_rows or args.sample_test_rows or args.sample_seed != SAMPLE_SEED):
        raise ConfigError("--sample_train_rows, --sample_test_rows and --sample_seed go with --sample")


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[str, int], None]]:
    """Gives a progress callback that draws a bar where standard error is a terminal."""
    from tqdm import tqdm
    shown = ""
    with tqdm(unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def update(path: str, done: int) -> None:
            nonlocal shown
            if path != shown:
                shown = path
                bar.reset(os.path.getsize(path))
                bar.set_description(os.path.basename(path), refresh=False)
            bar.update(done - bar.n)

        yield update


def _print_summary(manifest: Manifest, args: argparse.Namespace, earlier: Optional[Manifest], read_seconds: float,
                   seconds: float) -> None:
    train, test = ({item.sha256: item.name for item in manifest.split(name).inputs}
                   for name in (TRAIN_SPLIT, TEST_SPLIT))
    lines = [] if args.split else [
        "warning: %s is among the training and the test files: its scores say nothing of new rows" % name
        for digest, name in train.items() if digest in test]
    known = {item.sha256 for item in earlier.split(TRAIN_SPLIT).inputs} if earlier else set()
    lines += ["warning: %s is among the files of %s already: its values are counted twice, and its rows would be "
              "trained twice" % (name, args.vocabulary_from) for digest, name in train.items() if digest in known]
    for name, split in manifest.splits.items():
        rates = ["%s %.2f %%" % (task, 100.0 * count / split.rows) for task, count in split.positives.items()]
        parts = [("positive", ", ".join(rates)), ("without a label", _counts(split.unknown_labels)),
                 # The training rows make the vocabularies, which lack only what min_count leaves out.
                 ("values rarer than min_count" if name == TRAIN_SPLIT else "out-of-vocabulary values",
                  sum(split.out_of_vocabulary.values())),
                 ("lists cut to max_length", _counts(split.cut_lists)),
                 ("duplicates", "not counted" if split.duplicates is None else split.duplicates),
                 ("bad rows", ", ".join("%s: %d" % item for item in sorted(split.bad_rows.items())) or 0)]
        lines.append("; ".join(
            ["%-5s %d rows" % (name, split.rows)] + ["%s: %s" % part for part in parts if part[1] != ""]
            + ["%d files, %.1f MB" % (len(split.shards), sum(shard.size for shard in split.shards) / 1e6)]))
        lines += ["warning: %s: %s of %s; check positive: and negative: in the dataset file" % (
            name, "no label is 1" if not count else "every label is 1", task)
            for task, count in split.positives.items() if count in (0, split.rows - split.unknown_labels[task])]
        lines += ["warning: %s: %s is 1 in %d rows where %s, which it builds on (given), is 0; leave given out where "
                  "one does not follow from the other" % (name, task, count, manifest.dataset.task(task).given)
                  for task, count in split.contradictions.items() if count]
    lines += _unsplit_lists(manifest, args.output_path)
    lines.append("%d different values, %d rows per record; %.1f s (%.0f rows/s from text to records)" % (
        manifest.different_values, manifest.line_per_sample, seconds,
        sum(split.rows for split in manifest.splits.values()) / read_seconds))
    sys.stdout.write("\n".join(lines) + "\n")


def _unsplit_lists(manifest: Manifest, directory: str) -> Iterator[str]:
    """Yields a warning for each feature of whose values most look like lists: nothing, or another character, split
    them."""
    for feature in manifest.dataset.categorical:
        path = manifest.vocabularies[feature.vocabulary or feature.name].path
        if not path or feature.vocabulary:
            continue
        table = pa.parquet.ParquetFile(os.path.join(directory, path))
        first: Any = next(table.iter_batches(_LOOKED_AT, columns=["value"]), ())
        found = list_separator(first.to_pandas()["value"]) if len(first) >= _FEW_VALUES else ""
        if found:
            yield ("warning: values of %s look like lists with %r between their values; separator: %r with max_length: "
                   "in the dataset file takes them apart" % (feature.name, found, found))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join("%s %d" % item for item in counts.items() if item[1])
