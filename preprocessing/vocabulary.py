"""Vocabularies: which values a sparse column has, and the ids that they get.

A vocabulary is in order of first appearance. The ids of a column begin at its offset; the last one of a column stands
for every value that is not in the vocabulary.
"""
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from feature_specs.census import CENSUS
from feature_specs.dataset import DatasetDefinition
from feature_specs.manifest import Manifest
from preprocessing.bad_rows import BadRows
from preprocessing.raw_reader import RowChunk, new_value_table, read_chunks
from preprocessing.value_table import ValueTable


def get_fea_map(paths: Sequence[str], definition: DatasetDefinition = CENSUS, max_bad_rows: Optional[str] = None,
                **reader_options: Any) -> Dict[str, Dict[str, int]]:
    """Builds the vocabularies of raw text files.

    Args:
        paths: the files, in order.
        definition: the dataset's columns.
        max_bad_rows: bad rows allowed per file, ``N`` or ``P%``; none by default.
        **reader_options: further arguments of :func:`preprocessing.raw_reader.read_chunks`.

    Returns:
        {sparse column: {value: index}}; indices count from 0 in order of first appearance.

    Raises:
        DataError: a file cannot be used.
    """
    table = new_value_table(definition)
    for path in paths:
        for _ in read_chunks(path, definition, table, bad_rows=BadRows(path, max_bad_rows), **reader_options):
            continue
    return {column: {value: index for index, value in enumerate(values)}
            for column, values in vocabularies_of(table).items()}


def vocabularies_of(table: ValueTable) -> Dict[str, Tuple[str, ...]]:
    """Returns {column: its values in index order} of a value table."""
    return {column: tuple(table.values(number)) for number, column in enumerate(table.columns)}


def id_offsets(definition: DatasetDefinition, vocabularies: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Returns int64 [sparse columns], the first id of each column; each column has one id more than values."""
    sizes = [len(vocabularies[column]) + 1 for column in definition.sparse_columns]
    return np.cumsum([0] + sizes[:-1]).astype(np.int64)


class IdEncoder:
    """Gives rows of raw text the ids of an existing manifest; what prediction uses.

    ``read_chunks(path, manifest.dataset, encoder.table, grow=False, require_labels=False)`` reads, :meth:`ids` encodes.

    Args:
        manifest: of the data the model was trained on.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.table = new_value_table(manifest.dataset, dict(manifest.vocabularies))
        self._offsets = id_offsets(manifest.dataset, manifest.vocabularies)

    def ids(self, chunk: RowChunk) -> np.ndarray:
        """Returns int64 [rows, sparse columns], the ids of a chunk read with :attr:`table` and ``grow=False``."""
        return chunk.sparse + self._offsets
