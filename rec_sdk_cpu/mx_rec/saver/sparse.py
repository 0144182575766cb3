"""Stand-in for ``mx_rec.saver.sparse``: tables as one NumPy file each (rec_sdk_api 5.3)."""
import logging
import os
from typing import Any, List, Optional

import numpy as np

from rec_sdk_cpu.core import ranks, sparse_files
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Rule, checked

logger = logging.getLogger("rec_sdk_cpu")

EXPORT_FILE = "key-emb.npy"


class _TableList(Rule):
    """A non-empty list of str."""

    def allowed(self) -> str:
        """See the base class."""
        return "a non-empty list of str"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


@checked(_TableList("table_list", optional=True))
def export(table_list: Optional[List[str]] = None) -> None:
    """Writes ``<sparse folder>/<table>/key-emb.npy`` beside the tables of the checkpoint saved last.

    The file is a pickled dict {np.uint64 key: float32 [dim]}, the SDK's own format; read it with
    ``np.load(path, allow_pickle=True).item()``, and only where you trust who wrote it.

    With several ranks, which share the checkpoint, rank 0 writes it.

    Args:
        table_list: names of tables, default all; a name that the checkpoint does not have is skipped with a warning.

    Raises:
        EnvironmentError: ``init`` has not run.
        RuntimeError: nothing has been saved in this process, or dynamic expansion is on.
        SparseFilesError: the checkpoint is damaged or gone.
    """
    config = ConfigInitializer.get_instance()
    if config.use_dynamic_expansion:
        raise RuntimeError("export works with tables in device memory and in host memory only, not with dynamic "
                           "expansion")
    directory = config.last_sparse_directory
    if directory is None:
        raise RuntimeError("export must follow a save in the same process")
    if ranks.several() and ranks.get_rank_id() > 0:
        return
    present = sparse_files.tables(directory)
    for table in present if table_list is None else table_list:
        if table not in present:
            logger.warning("export: %s has no table %r; it has %s", directory, table, present)
            continue
        keys, rows = sparse_files.read_table(directory, table)
        values = dict(zip(keys.astype(np.uint64), np.array(rows)))
        path = os.path.join(directory, table, EXPORT_FILE)
        with open(path + ".tmp", "wb") as stream:
            np.save(stream, values, allow_pickle=True)
        os.chmod(path + ".tmp", sparse_files.FILE_MODE)
        os.replace(path + ".tmp", path)
