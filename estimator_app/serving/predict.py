"""The ``predict`` command: raw text -> one line of probabilities per row, in order, through the serving graph.

The file is read, scored and written in bounded pieces: they are scored on threads of their own while the next is read.
"""
import collections
import concurrent.futures
import json
import os
import sys
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, TextIO, Union

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from estimator_app.serving.export import Model, read_model
from estimator_app.serving.graph import Scorer, assign_weights, build_ids_signature
from estimator_app.serving.weights import network_shape
from estimator_app.training import machine
from feature_specs.dataset import DENSE_FEATURE, SPARSE_FEATURE
from feature_specs.errors import ConfigError, DataError
from preprocessing.bad_rows import BadRows, parse_limit
from preprocessing.raw_reader import InputFile, new_value_table, read_chunks
from preprocessing.temporary_names import remove_leftovers, temporary_name

FORMATS = ("csv", "jsonl")
BATCH_SIZE = 4096
_PROGRESS_SECONDS = 0.2


class Piece(NamedTuple):
    """Some lines of the input: the usable rows, and how many lines there are.

    Attributes:
        lines: number of lines, unusable ones included.
        places: int64 [n], 0-based place of each usable row among the lines.
        ids: int64 [n, S].
        dense: float32 [n, D], raw units.
    """

    lines: int
    places: np.ndarray
    ids: np.ndarray
    dense: np.ndarray


def predict_file(model_dir: str, checkpoint: str, input_path: str, output_path: str, file_format: str = "csv",
                 batch_size: int = BATCH_SIZE, max_bad_rows: Union[int, str, None] = None, threads: int = 0,
                 progress: Optional[TextIO] = None) -> Dict[str, Any]:
    """Scores a file of raw text.

    Args:
        model_dir: a directory that training wrote.
        checkpoint: ``latest``, ``best`` or a step number.
        input_path: raw text, plain or gzip; the label columns may be absent.
        output_path: appears when it is complete.
        file_format: ``csv`` (a header with the tasks' names) or ``jsonl`` (an object per row).
        batch_size: rows that are scored together, at least.
        max_bad_rows: ``N`` or ``P%`` rows that may be unusable, default none; each leaves a line without values.
        threads: threads for scoring; 0: one per core that the process may use.
        progress: where a progress bar goes if it is a terminal, default standard error.

    Returns:
        rows, bad_rows, seconds and rows_per_second, of reading, scoring and writing.

    Raises:
        UserError: the model or a file cannot be used, or the file has more bad rows than allowed.
    """
    if file_format not in FORMATS:
        raise ConfigError("format %r is not known; allowed: %s" % (file_format, ", ".join(FORMATS)))
    if batch_size < 1 or threads < 0:
        raise ConfigError("batch_size %d and threads %d: give at least 1 row and 0 threads" % (batch_size, threads))
    _check_paths(input_path, output_path)
    number, share = parse_limit(max_bad_rows)
    bad_rows = BadRows(input_path, max_bad_rows)
    model = read_model(model_dir, checkpoint)
    threads = machine.threads(threads)
    folder, name = os.path.split(os.path.abspath(output_path))
    remove_leftovers(folder, name + ".partial-")
    temporary = os.path.join(folder, temporary_name(name + ".partial-"))
    rows = 0
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as output, \
                _ProgressBar(input_path, progress or sys.stderr) as bar, \
                GraphScorer(model, threads) as scorer:
            write = LineWriter(output, model.manifest.dataset.task_names, file_format)
            began = time.time()
            pieces = read_pieces(input_path, model, batch_size, bad_rows, None if share else number, bar.at_byte)
            for piece, probabilities in _score_ahead(pieces, scorer, threads):
                write(piece, probabilities)
                rows += piece.lines
                bar.add_rows(piece.lines)
            output.flush()
            os.fsync(output.fileno())
        os.replace(temporary, output_path)
    except OSError as error:
        raise DataError("%s cannot be written: %s" % (output_path, error.strerror or error)) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    seconds = time.time() - began
    return {"rows": rows, "bad_rows": bad_rows.total, "seconds": seconds, "rows_per_second": rows / max(seconds, 1e-9)}


def read_pieces(path: str, model: Model, batch_size: int, bad_rows: BadRows, limit: Optional[int] = None,
                progress: Optional[Callable[[int], None]] = None) -> Iterator[Piece]:
    """Reads raw text as pieces of at least ``batch_size`` rows (the last one may be smaller).

    Args:
        path: the file.
        model: vocabularies and columns.
        batch_size: rows.
        bad_rows: collects the unusable rows and holds their limit.
        limit: the limit where it is a number of rows: reading ends as soon as it is passed.
        progress: called with the number of bytes read.

    Yields:
        The pieces, in file order; together they cover every line.

    Raises:
        DataError: the file cannot be read, or has more bad rows than allowed.
    """
    dataset = model.manifest.dataset
    offsets = model.manifest.id_offsets()
    first_ids = np.array([offsets[column] for column in dataset.sparse_columns], np.int64)
    table = new_value_table(dataset, {column: model.manifest.vocabularies[column] for column in dataset.sparse_columns})
    info = InputFile(path)
    held: List[Any] = []
    held_rows = start = 0
    for chunk in read_chunks(path, dataset, table, grow=False, require_labels=False, bad_rows=bad_rows, info=info,
                             progress=progress):
        if limit is not None and bad_rows.total > limit:
            bad_rows.check(info.lines)
        held.append(chunk)
        held_rows += len(chunk.line_numbers)
        if held_rows >= batch_size:
            yield _piece(held, start, info.lines, first_ids)
            start, held, held_rows = info.lines, [], 0
    if info.lines > start:
        yield _piece(held, start, info.lines, first_ids)


class GraphScorer:
    """The serving graph in a session; a context manager.

    Args:
        model: the trained model.
        threads: threads of TensorFlow.
    """

    def __init__(self, model: Model, threads: int) -> None:
        dataset = model.manifest.dataset
        with tf.Graph().as_default() as graph:
            scorer = Scorer(dataset, network_shape(model.config, dataset), model.encoding)
            signature = build_ids_signature(scorer, dataset)
            outputs = tf.concat([signature.outputs[task] for task in dataset.task_names], axis=1)
        self._has_dense = DENSE_FEATURE in signature.inputs
        # Batches run beside each other, so one op need not be split among threads.
        self._session = tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=threads))
        assign_weights(self._session, model.weights, dataset.table_name)
        feeds = [signature.inputs[name] for name in (SPARSE_FEATURE, DENSE_FEATURE) if name in signature.inputs]
        self._call = self._session.make_callable(outputs, feed_list=feeds)

    def __call__(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """Scores rows; may be called from several threads.

        Args:
            ids: int64 [n, S].
            dense: float32 [n, D], raw units.

        Returns:
            float32 [n, tasks], probabilities.
        """
        return self._call(ids, dense) if self._has_dense else self._call(ids)

    def __enter__(self) -> "GraphScorer":
        return self

    def __exit__(self, *_error: Any) -> None:
        self._session.close()


class LineWriter:
    """Writes a line per row.

    Args:
        stream: the text file.
        tasks: names of the tasks, in output order.
        file_format: one of :data:`FORMATS`.
    """

    def __init__(self, stream: TextIO, tasks: Sequence[str], file_format: str) -> None:
        self._stream = stream
        # Nine significant digits give every float32 back exactly.
        if file_format == "csv":
            stream.write(",".join(tasks) + "\n")
            self._line, self._empty = ",".join(["%.9g"] * len(tasks)) + "\n", "," * (len(tasks) - 1) + "\n"
        else:
            keys = [json.dumps(task) for task in tasks]
            self._line = "{%s}\n" % ", ".join("%s: %%.9g" % key for key in keys)
            self._empty = "{%s}\n" % ", ".join("%s: null" % key for key in keys)

    def __call__(self, piece: Piece, probabilities: np.ndarray) -> None:
        """Writes the lines of a piece.

        Args:
            piece: the rows.
            probabilities: float32 [usable rows, tasks].
        """
        if len(piece.places) == piece.lines:
            lines = self._line * piece.lines
        else:
            kinds = np.full(piece.lines, self._empty, dtype=object)
            kinds[piece.places] = self._line
            lines = "".join(kinds)
        self._stream.write(lines % tuple(probabilities.ravel().tolist()))


class _ProgressBar:
    """Share of the file's bytes and rows/s, at most a few times a second; nothing where the stream is no terminal."""

    def __init__(self, path: str, stream: TextIO) -> None:
        self._bar: Optional[Any] = None
        self._rows = 0
        if stream.isatty():
            self._bar = tqdm(total=os.path.getsize(path), unit="B", unit_scale=True, file=stream, leave=False,
                             dynamic_ncols=True, mininterval=_PROGRESS_SECONDS, desc="predict")
        self._began = time.time()

    def at_byte(self, position: int) -> None:
        """Notes how many bytes were read."""
        if self._bar is not None:
            self._bar.update(position - self._bar.n)

    def add_rows(self, rows: int) -> None:
        """Notes rows that were written."""
        self._rows += rows
        if self._bar is not None:
            speed = self._rows / max(time.time() - self._began, 1e-9)
            self._bar.set_postfix_str("%d rows, %.0f rows/s" % (self._rows, speed), refresh=False)

    def __enter__(self) -> "_ProgressBar":
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._bar is not None:
            self._bar.close()


def _score_ahead(pieces: Iterator[Piece], scorer: GraphScorer, threads: int) -> Iterator[Any]:
    """Yields (piece, probabilities) in order; a fixed number of pieces is under way, so that memory stays bounded."""
    pending: Deque[Any] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for piece in pieces:
            pending.append((piece, pool.submit(scorer, piece.ids, piece.dense)))
            if len(pending) > threads:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()


def _piece(chunks: Sequence[Any], start: int, end: int, first_ids: np.ndarray) -> Piece:
    def joined(name: str) -> np.ndarray:
        parts = [getattr(chunk, name) for chunk in chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return Piece(end - start, joined("line_numbers") - (start + 1), joined("sparse") + first_ids, joined("dense"))


def _check_paths(input_path: str, output_path: str) -> None:
    if not os.path.isfile(input_path):
        raise DataError("input %s %s; give a raw text file, plain or gzip"
                        % (input_path, "is no file" if os.path.exists(input_path) else "does not exist"))
    if os.path.isdir(output_path):
        raise ConfigError("output %s is a directory; give the name of a file" % output_path)
    if os.path.exists(output_path) and os.path.samefile(input_path, output_path):
        raise ConfigError("output %s is the input file; give another name" % output_path)
    folder = os.path.dirname(os.path.abspath(output_path))
    if not os.path.isdir(folder):
        raise ConfigError("output %s: the directory %s does not exist; make it first" % (output_path, folder))
