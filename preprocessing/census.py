"""Command line that prepares the Census-Income (KDD) data.

``python preprocessing/census.py --train_data_path F --test_data_path F --output_path D``; also ``--source`` with a
folder or the published archive, ``--download``, or ``--sample`` for made-up data.
"""
import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
import urllib.parse
from typing import Callable, Iterator, Optional, Sequence, Tuple

if __name__ == "__main__" and not __package__:
    # Run as a file, Python puts this folder first; the packages are beside it.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from feature_specs.census import CENSUS
from feature_specs.errors import ConfigError, UserError
from feature_specs.manifest import Manifest
from preprocessing import sample_data, source_files
from preprocessing.output_directory import atomic_directory
from preprocessing.pipeline import VOCAB_CHOICES, check_settings, prepare_in
from preprocessing.raw_reader import DEFAULT_CHUNK_BYTES

_RAW_FOLDER = "raw"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the preparation to a parser."""
    data = parser.add_argument_group("where the data comes from (one of them)")
    data.add_argument("--train_data_path", metavar="FILE",
                      help="raw training text, plain or gzip [path]; together with --test_data_path (default: none)")
    data.add_argument("--test_data_path", metavar="FILE", help="raw test text, plain or gzip [path] (default: none)")
    data.add_argument("--source", metavar="PATH",
                      help="folder or zip/tar archive that holds census-income.data and census-income.test, plain or "
                           ".gz, also inside nested archives [path] (default: none)")
    data.add_argument("--download", action="store_true",
                      help="download the published archive; kept beside the output directory (default: off)")
    data.add_argument("--sample", action="store_true",
                      help="make up data in the census format; kept in OUTPUT/raw (default: off)")
    parser.add_argument("--output_path", metavar="DIR", required=True,
                        help="directory to make; one that was written by an earlier preparation is replaced [path] "
                             "(required)")
    _add_number(parser, "line_per_sample", 8, "rows packed into one record")
    _add_number(parser, "num_shards", 4, "TFRecord files per split")
    _add_number(parser, "seed", 2020, "seed of the shuffle of the training rows; whole number")
    parser.add_argument("--max_bad_rows", metavar="N|P%", default="0",
                        help="rows per file that may be left out because they cannot be used [rows, or percent of the "
                             "rows] (default: 0)")
    choices = [",".join(choice) for choice in VOCAB_CHOICES]
    parser.add_argument("--vocab_from", choices=choices, default=choices[0],
                        help="splits whose values make the vocabulary (default: %s)" % choices[0])
    _add_number(parser, "chunk_bytes", DEFAULT_CHUNK_BYTES, "text read at a time; bytes")
    _add_number(parser, "num_workers", 0, "processes that split text and encode records; 0: one per core, at most "
                                          "8, for large files, 1: this one; the output does not depend on it")
    _add_number(parser, "sample_train_rows", 60000, "rows of the made-up training file")
    _add_number(parser, "sample_test_rows", 20000, "rows of the made-up test file")
    _add_number(parser, "sample_seed", 2020, "seed of the made-up data; whole number")
    parser.add_argument("--download_url", metavar="URL", default=source_files.DOWNLOAD_URL,
                        help="address for --download (default: %s)" % source_files.DOWNLOAD_URL)
    parser.add_argument("--download_sha256", metavar="HEX", default=None,
                        help="expected SHA-256 of the download, 64 hexadecimal digits (default: not checked)")
    parser.add_argument("--debug", action="store_true", help="show stack traces (default: off)")


def run(args: argparse.Namespace) -> Manifest:
    """Prepares the data that the flags name, and prints a summary.

    Args:
        args: parsed flags of :func:`add_arguments`.

    Returns:
        The manifest that was written.

    Raises:
        DataError: an input, the download or the output directory cannot be used.
        ConfigError: flags are missing, contradict each other or are out of range.
    """
    _check_sources(args)
    check_settings(args.line_per_sample, args.num_shards, args.seed, max_bad_rows=args.max_bad_rows,
                   chunk_bytes=args.chunk_bytes, num_workers=args.num_workers)
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(atomic_directory(args.output_path))
        train_path, test_path = stack.enter_context(_raw_files(args, directory))
        bar = stack.enter_context(_progress_bar())
        read_from = time.perf_counter()
        manifest = prepare_in(
            directory, train_path, test_path, CENSUS, line_per_sample=args.line_per_sample,
            num_shards=args.num_shards, seed=args.seed, max_bad_rows=args.max_bad_rows,
            vocab_from=tuple(args.vocab_from.split(",")), chunk_bytes=args.chunk_bytes, num_workers=args.num_workers,
            progress=bar)
        read_seconds = time.perf_counter() - read_from
    _print_summary(manifest, args.output_path, read_seconds, time.perf_counter() - started)
    return manifest


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns 0, 1 for data that cannot be used, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="census.py", description=__doc__, allow_abbrev=False)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        run(args)
    except UserError as error:
        if args.debug:
            raise
        sys.stderr.write("error: %s\n" % error)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    return 0


def _add_number(parser: argparse.ArgumentParser, name: str, default: int, text: str) -> None:
    parser.add_argument("--" + name, type=int, default=default, metavar="N", help="%s (default: %d)" % (text, default))


def _check_sources(args: argparse.Namespace) -> None:
    if bool(args.train_data_path) != bool(args.test_data_path):
        raise ConfigError("--train_data_path and --test_data_path go together; give both")
    given = [flag for flag, value in (("--train_data_path", args.train_data_path), ("--source", args.source),
                                      ("--download", args.download), ("--sample", args.sample)) if value]
    if len(given) != 1:
        raise ConfigError("%s given; give one of --train_data_path with --test_data_path, --source, --download, "
                          "--sample"
                          % (" and ".join(given) or "no data"))


@contextlib.contextmanager
def _raw_files(args: argparse.Namespace, directory: str) -> Iterator[Tuple[str, str]]:
    """Gives the paths of the raw files; unpacked ones are removed at the end."""
    if args.train_data_path:
        yield args.train_data_path, args.test_data_path
        return
    if args.sample:
        raw = os.path.join(directory, _RAW_FOLDER)
        os.mkdir(raw)
        yield sample_data.write_sample(raw, args.sample_train_rows, args.sample_test_rows, args.sample_seed)
        return
    source = args.source or _downloaded(args)
    unpacked = tempfile.mkdtemp(prefix="unpacked-", dir=directory)
    try:
        yield source_files.find_files(source, unpacked)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _downloaded(args: argparse.Namespace) -> str:
    name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(args.download_url).path)) or "download"
    path = os.path.join(os.path.dirname(os.path.abspath(args.output_path)), name)
    sys.stdout.write("downloading %s\n" % args.download_url)
    sys.stdout.flush()
    source_files.download(args.download_url, path, args.download_sha256)
    return path


@contextlib.contextmanager
def _progress_bar() -> Iterator[Optional[Callable[[str, int, int], None]]]:
    """Gives a progress callback that draws a bar, or None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm
    with tqdm(unit="B", unit_scale=True, leave=False) as bar:
        def update(what: str, done: int, total: int) -> None:
            bar.set_description(what, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _print_summary(manifest: Manifest, output_path: str, read_seconds: float, seconds: float) -> None:
    lines, rows = [], 0
    for name, split in manifest.splits.items():
        rows += split.rows
        rates = ", ".join("%s %.2f %%" % (task, 100.0 * count / split.rows) for task, count in split.positives.items())
        unknown = sum(split.out_of_vocabulary.values())
        bad = ", ".join("%s: %d" % item for item in sorted(split.bad_rows.items())) or "0"
        lines.append("%-5s %d rows; positive: %s; out-of-vocabulary values: %d; duplicates: %s; bad rows: %s; "
                     "%d files, %.1f MB" % (
                         name, split.rows, rates, unknown, split.duplicates if split.duplicates >= 0 else "not counted",
                         bad, len(split.shards), sum(shard.size for shard in split.shards) / 1e6))
    lines.append("%d ids, %d rows per record; %.1f s (%.0f rows/s from text to records)" % (
        manifest.num_ids(), manifest.line_per_sample, seconds, rows / max(read_seconds, 1e-9)))
    lines.append("written: %s" % output_path)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
