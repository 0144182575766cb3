"""``--max_corrupt_records``: training on data of which a bounded number of records cannot be used."""
import os
import shutil
import time
from typing import TextIO, Tuple

from estimator_app.config import Config
from estimator_app.model_dir import history
from estimator_app.model_dir.directory import READABLE_DATA_FOLDER
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest
from feature_specs.sdk import get_rank_size
from input_fn.record_file import shard_path
from input_fn.substitutes import BadRecord, find_bad_records, with_substitutes, write_substitutes


def readable_data(config: Config, manifest: Manifest, start: int, stream: TextIO) -> Tuple[Manifest, int]:
    """Finds damaged records, where they are allowed, and puts readable copies in the place of their files.

    All records are read once, at every start, so that what is left out is a function of the data alone and a run that
    goes on leaves the same records out. One warning per record and a line of ``metrics.jsonl`` say which.

    Args:
        config: settings; with ``max_corrupt_records`` 0 nothing is read.
        manifest: of the data.
        start: the step that the run starts from, for ``metrics.jsonl``.
        stream: where warnings go.

    Returns:
        The manifest to read by, and the number of records that are left out.

    Raises:
        DataError: more damaged records than are allowed.
        ConfigError: several ranks, which do not share the copies.
    """
    allowed = config.max_corrupt_records
    folder = os.path.join(config.model_dir, READABLE_DATA_FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    if not allowed:
        return manifest, 0
    if get_rank_size() > 1:
        raise ConfigError("--max_corrupt_records %d works with one rank, there are %d; prepare the data again, or "
                          "leave the flag out" % (allowed, get_rank_size()))
    bad = find_bad_records(manifest, config.data_dir, (TRAIN_SPLIT, TEST_SPLIT))
    lines = [_line(config, manifest, item) for item in bad]
    if len(bad) > allowed:
        raise DataError("%s; %d records are damaged, --max_corrupt_records allows %d; prepare the data again"
                        % (lines[allowed], len(bad), allowed))
    if not bad:
        return manifest, 0
    copies = write_substitutes(manifest, config.data_dir, bad, folder)
    for line in lines:
        stream.write("warning: left out: %s\n" % line)
    stream.flush()
    history.append(config.model_dir, history.CORRUPT_RECORDS, {
        "global_step": start, "time": time.time(), "corrupt_records": len(bad), "records": lines})
    return with_substitutes(manifest, copies), len(bad)


def _line(config: Config, manifest: Manifest, item: BadRecord) -> str:
    shard = manifest.split(item.split).shards[item.shard]
    return "%s, record %d: %s" % (shard_path(config.data_dir, shard), item.record, item.problem)
