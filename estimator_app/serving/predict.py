"""The ``predict`` command: raw files -> one line of predictions per row, in order, through the serving graph.

Files are read, scored and written in bounded pieces: they are scored on threads of their own while the next is read.
"""
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from typing import IO, Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import tensorflow as tf
from tqdm import tqdm

from estimator_app.model.definition import Model
from estimator_app.model_dir import directory
from estimator_app.serving.graph import ServingGraph
from estimator_app.serving.weights import TrainedModel, read_model
from feature_specs.cores import usable_cores
from feature_specs.data_files import is_data_file
from feature_specs.dataset import PARQUET
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import MODEL_DATA_FOLDER
from feature_specs.outputs import STANDARD, open_output
from preprocessing.reading.readers import Reading, find_inputs, ordered_map, read_frames
from preprocessing.reading.text_files import is_parquet
from preprocessing.vocabulary import Vocabularies, encode_frame

FORMATS = ("csv", "jsonl")
# As in training; far more than cores would wait for each other without an end.
MAX_THREADS = 1024
_PROGRESS_SECONDS = 0.2
# Every block is encoded on its own, and large ones repeat less.
_BLOCK_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is to be scored, with a checkpoint (``latest``, ``best`` or a step number) of ``model_dir``."""

    model_dir: str
    checkpoint: str
    inputs: Tuple[str, ...]  # files, folders or patterns in the dataset's format; ``-`` is standard input
    output: str  # file to write; ``-`` is standard output (:func:`feature_specs.outputs.open_output`)
    format: str = "csv"  # ``csv`` (a header and a line per row) or ``jsonl`` (an object per row)
    batch_size: int = 4096  # rows that are scored together
    max_bad_rows: Union[int, str] = 0  # unusable rows per file, ``N`` or ``P%``; each leaves a line without values
    threads: int = 0  # for reading and scoring; 0: one per core that the process may use


@dataclasses.dataclass
class Done:
    """What was scored: rows, unusable ones among them, and seconds of reading, scoring and writing."""

    rows: int = 0
    bad_rows: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Some rows of a file: how many lines they span, the 0-based place of each usable one, their keys and inputs."""

    lines: int
    places: np.ndarray
    keys: np.ndarray
    sparse: np.ndarray
    dense: np.ndarray


def predict(request: Prediction) -> Done:
    """Scores files; UserError where the model or a file cannot be used, or a file has more bad rows than allowed: the
    output stays what it was."""
    if request.format not in FORMATS:
        raise ConfigError("format %r is not known; allowed: %s" % (request.format, ", ".join(FORMATS)))
    if request.batch_size < 1 or not 0 <= request.threads <= MAX_THREADS:
        raise ConfigError("batch_size %d and threads %d: give at least 1 row, and 0 to %d threads"
                          % (request.batch_size, request.threads, MAX_THREADS))
    trained = read_model(request.model_dir, request.checkpoint)
    threads = request.threads or usable_cores()
    with _inputs(request, trained) as paths:
        _check_output(request, paths)
        vocabularies = Vocabularies.load(os.path.join(request.model_dir, MODEL_DATA_FOLDER), trained.model.manifest)
        score = make_scorer(trained, threads)
        done, began = Done(), time.time()

        def scored(piece: _Piece) -> Tuple[_Piece, np.ndarray]:
            return piece, score(piece.sparse, piece.dense)

        with open_output(request.output) as stream, _progress(paths) as progress:
            reading = Reading(max_bad_rows=request.max_bad_rows, num_workers=threads, block_bytes=_BLOCK_BYTES,
                              progress=progress, rows_needed=False, hashes=False)
            pieces = _pieces(trained.model, paths, vocabularies, reading, request.batch_size)
            writer = _Writer(stream, trained, request.format)
            for piece, values in ordered_map(scored, pieces, threads):
                writer.write(piece, values)
                done.rows += piece.lines
                done.bad_rows += piece.lines - len(piece.places)
        done.seconds = time.time() - began
    return done


def _check_output(request: Prediction, paths: Sequence[str]) -> None:
    """Refuses an output that would replace what is read, or a file of a model or of prepared data."""
    output = request.output
    if output == STANDARD:
        return
    if os.path.exists(output) and any(os.path.samefile(path, output) for path in paths):
        raise ConfigError("output %s is an input file; give another name" % output)
    if directory.holds(request.model_dir, output) or is_data_file(output):
        raise ConfigError("output %s is a file of a model or of prepared data; give another name" % output)


def make_scorer(trained: TrainedModel, threads: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Builds the serving graph in a session; returns what scores rows, int64 [n, W] and float32 [n, D] in raw units, as
    float32 [n, outputs], also from several threads at once."""
    dataset = trained.model.manifest.dataset
    with tf.Graph().as_default() as graph:
        serving = ServingGraph(trained)
        inputs = [tf.compat.v1.placeholder(tf.int64, [None, dataset.sparse_width]),
                  tf.compat.v1.placeholder(tf.float32, [None, len(dataset.numeric)])]
        outputs = serving.score(*inputs)
        scores = tf.concat([outputs[name] for name in trained.model.tasks.output_names()], axis=1)
        # Batches run beside each other, so one op need not be split among threads.
        session = tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=threads))
        serving.assign(session)
    # In the thread that calls: nothing is handed over, and nobody waits.
    return functools.partial(session.make_callable(scores, inputs, accept_options=True),
                             options=tf.compat.v1.RunOptions(inter_op_thread_pool=-1))


@contextlib.contextmanager
def _inputs(request: Prediction, trained: TrainedModel) -> Iterator[List[str]]:
    """Gives the files; standard input is copied into one, since not every kind of it has a name to open."""
    if STANDARD in request.inputs and len(request.inputs) > 1:
        raise ConfigError("--input - is standard input, which is read once and alone")
    packed = trained.model.manifest.dataset.files.format == PARQUET
    if request.inputs != (STANDARD,):
        paths = find_inputs(request.inputs, each_once=False)
        for path in paths:
            if os.path.isfile(path) and is_parquet(path) != packed:
                raise DataError("%s is %s; the data that the model was trained on last is %s: write the rows so" % (
                    path, "no Parquet file" if packed else "a Parquet file", "Parquet" if packed else "text"))
        yield paths
        return
    if packed:
        raise ConfigError("--input - takes text; the dataset's files are Parquet: give a file")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "standard input")
        with open(path, "wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        try:
            yield [path]
        except DataError as error:
            raise DataError(str(error).replace(folder + os.sep, "")) from error


def _pieces(model: Model, paths: Sequence[str], vocabularies: Vocabularies, reading: Reading,
            batch_size: int) -> Iterator[_Piece]:
    """Yields all rows in order; together the pieces cover every line of every file."""
    dataset = model.manifest.dataset
    # What the model does not look at may be absent, or wrong.
    seen = [feature.name for feature in dataset.features if feature.name not in model.config.drop_dense]
    for path in paths:
        frames = read_frames(dataset, [path], reading, seen)
        # The first row of a file comes after its header.
        start = 1
        for frame in frames:
            start = max(start, frames.first_row)
            sparse, dense = encode_frame(frame, vocabularies)
            keys = frame[dataset.row_key].astype(object).to_numpy() if dataset.row_key else np.full(len(frame), None)
            lines = frame.index.to_numpy(np.int64)
            for first in range(0, len(lines), batch_size):
                part = slice(first, first + batch_size)
                last = int(lines[part][-1])
                yield _Piece(last - start + 1, lines[part] - start, keys[part], sparse[part], dense[part])
                start = last + 1
        start = max(start, frames.first_row)
        if frames.last_row >= start:
            yield _Piece(frames.last_row - start + 1, np.zeros(0, np.int64), np.zeros(0, object),
                         np.zeros((0, dataset.sparse_width), np.int64), np.zeros((0, len(dataset.numeric)), np.float32))


class _Writer:
    """Writes a line per row: the row key where the dataset has one, then the outputs; unusable rows have no values."""

    def __init__(self, stream: IO[bytes], trained: TrainedModel, file_format: str) -> None:
        self._stream = stream
        self._outputs = trained.model.tasks.output_names()
        self._key = trained.model.manifest.dataset.row_key
        self._format = file_format
        if file_format == "csv":
            names = ([self._key] if self._key else []) + self._outputs
            self._stream.write(str(pd.DataFrame(columns=names).to_csv(index=False)).encode("utf-8"))

    def write(self, piece: _Piece, values: np.ndarray) -> None:
        """Writes the lines of a piece; ``values`` float32 [usable rows, outputs]."""
        whole = np.full((piece.lines, len(self._outputs)), np.nan, np.float32)
        whole[piece.places] = values
        columns = {name: pa.array(whole[:, number], from_pandas=True) for number, name in enumerate(self._outputs)}
        if self._key:
            keys = np.full(piece.lines, None, object)
            keys[piece.places] = piece.keys
            columns = dict({self._key: pa.array(keys, pa.string())}, **columns)
        if self._format == "csv":
            # Every float32 is written with the digits that give it back exactly.
            pyarrow.csv.write_csv(pa.table(columns), self._stream, pyarrow.csv.WriteOptions(include_header=False))
            return
        parts: List[Any] = []
        for name, column in columns.items():
            if name == self._key:
                texts = pa.array(map(json.dumps, column.to_pylist()), pa.string())
            else:
                # JSON has no infinity, which a regression of logarithms may reach.
                texts = pc.fill_null(pc.if_else(pc.is_finite(column), column.cast(pa.string()), None), "null")
            parts += [(", " if parts else "{") + json.dumps(name) + ": ", texts]
        lines = pc.binary_join_element_wise(*parts, "}\n", "")
        self._stream.write("".join(lines.to_pylist()).encode("utf-8"))


@contextlib.contextmanager
def _progress(paths: Sequence[str]) -> Iterator[Callable[[str, int], None]]:
    """Shows a bar of bytes read on a terminal; gives what is called with a file and the bytes of it that are read."""
    read: Dict[str, int] = {}
    with tqdm(total=sum(map(os.path.getsize, paths)), unit="B", unit_scale=True, leave=False, dynamic_ncols=True,
              mininterval=_PROGRESS_SECONDS, desc="predict", disable=None) as bar:

        def update(path: str, count: int) -> None:
            read[path] = count
            bar.update(sum(read.values()) - bar.n)

        yield update
