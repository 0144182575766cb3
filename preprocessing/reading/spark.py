"""``prepare --engine spark``: the files are read and parsed by the executors of a Spark cluster.

One task reads one file, with the very reader of one machine, and sends its raw frames. The driver takes them in the
order of the files, numbers the values, shuffles and writes, so that the output is the same byte for byte.
"""
import contextlib
import dataclasses
import functools
import os
import sys
from typing import Any, Iterator, Sequence, Union

import pandas as pd

from feature_specs.dataset import DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import PROJECT
from preprocessing.reading.columns import Roles, roles_of
from preprocessing.reading.readers import FrameReader, Reading

DEFAULT_MASTER = "local[*]"


class SparkReader(FrameReader):
    """Iterates over the raw frames of files, whose paths every executor can open; ``context`` as of
    :func:`spark_context`."""

    def __init__(self, definition: DatasetDefinition, paths: Sequence[str], reading: Reading, context: Any) -> None:
        super().__init__(definition, paths, reading, roles_of(definition, more_texts=reading.more_texts))
        self._context = context

    def __iter__(self) -> Iterator[pd.DataFrame]:
        self._start()
        task = functools.partial(_read_file, self._definition, self._roles,
                                 dataclasses.replace(self._reading, num_workers=1, progress=None))
        paths = [os.path.abspath(path) for path in self._paths]
        found = self._context.parallelize(paths, len(paths)).flatMap(task)
        # One file at a time comes to the driver, the next one is read meanwhile.
        with _explained_failures():
            for item in found.toLocalIterator(prefetchPartitions=True):
                if isinstance(item, DataError):
                    raise item
                elif isinstance(item, FrameReader):
                    if item.first is not None:
                        self.compare_columns(*item.first)
                    self.inputs += item.inputs
                    self.last_row = item.last_row
                    self.bad_rows.update(item.bad_rows)
                else:
                    yield item


def _read_file(definition: DatasetDefinition, roles: Roles, reading: Reading, path: str
               ) -> Iterator[Union[pd.DataFrame, FrameReader, DataError]]:
    """Reads one file on an executor: yields its frames, then what the reader found, or what is wrong."""
    reader = FrameReader(definition, [path], reading, roles)
    try:
        yield from reader
    except DataError as error:
        yield error
    else:
        reader.reports = []  # their hints know the open file
        yield reader


@contextlib.contextmanager
def spark_context(master: str) -> Iterator[Any]:
    """Gives a context on the cluster at a URL (or ``local[N]``), whose executors find this project under its path here.

    Raises:
        ConfigError: pyspark is not installed, or Spark does not start.
    """
    try:
        from pyspark import SparkConf, SparkContext
    except ImportError as error:
        raise ConfigError("--engine spark: pyspark is not installed; run 'bash run_estimator.sh setup --spark'"
                          ) from error
    paths = [PROJECT] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = SparkConf().setMaster(master).setAppName("estimator_app prepare").setAll([
        ("spark.ui.enabled", "false"), ("spark.ui.showConsoleProgress", "false"),
        ("spark.driver.maxResultSize", "0"), ("spark.executorEnv.PYTHONPATH", PROJECT)])
    try:
        context = SparkContext(conf=settings)
    except Exception as error:  # whatever the Java side reports
        raise ConfigError("--engine spark: Spark does not start with master %s: %s; check --spark_master and Java 8, "
                          "11 or 17 (JAVA_HOME)" % (master, _first_line(error))) from error
    try:
        yield context
    finally:
        context.stop()


@contextlib.contextmanager
def _explained_failures() -> Iterator[None]:
    from py4j.protocol import Py4JError
    try:
        yield
    except Py4JError as error:
        raise DataError("Spark could not read the files: %s; every executor needs this project, its environment and "
                        "the files under the same paths" % _first_line(error)) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "Exception" in line]
    return (named or lines or [type(error).__name__])[-1 if named else 0]
