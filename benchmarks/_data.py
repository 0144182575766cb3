"""The data of the benchmarks: census text of any number of rows, and its prepared forms."""
import itertools
import os
from typing import List, Tuple

from preprocessing.pipeline import prepare
from preprocessing.sample_data import write_sample
from preprocessing.source_files import find_files
from preprocessing.validation_split import TEST_NAME, TRAIN_NAME, read_lines

#: Rows of the published training file.
PUBLISHED_ROWS = 199523


def raw_text(directory: str, source: str, rows: int, eval_rows: int) -> Tuple[str, str, str]:
    """Writes plain text files of given lengths.

    Args:
        directory: existing folder to write into.
        source: folder with the census text, whose rows are repeated as often as needed; empty for made-up rows.
        rows, eval_rows: lines of the training and of the evaluation file.

    Returns:
        The two paths, and what the rows are.
    """
    if source:
        found, kind = find_files(source, directory), "real"
    else:
        found, kind = write_sample(directory, min(rows, 60000), min(eval_rows, 20000)), "made up"
    paths: List[str] = []
    for path, name, count in zip(found, (TRAIN_NAME, TEST_NAME), (rows, eval_rows)):
        target = os.path.join(directory, name)
        lines = [line.rstrip(b"\r\n") + b"\n" for line in read_lines(path)]
        with open(target, "wb") as stream:
            stream.writelines(itertools.islice(itertools.cycle(lines), count))
        paths.append(target)
    return paths[0], paths[1], kind


def prepared(directory: str, paths: Tuple[str, str], line_per_sample: int) -> str:
    """Prepares a data directory and returns its path.

    Args:
        directory: existing folder to write into.
        paths: training and evaluation text.
        line_per_sample: rows per record.
    """
    target = os.path.join(directory, "packed-%d" % line_per_sample)
    prepare(paths[0], paths[1], target, line_per_sample=line_per_sample)
    return target
