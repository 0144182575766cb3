"""What happens before a training starts, once per run and without TensorFlow: data, model directory, step numbers."""
import dataclasses
import os
from typing import List, TextIO

from estimator_app.config import Config
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir import directory as model_directory
from feature_specs.census import CENSUS
from feature_specs.dataset import differences
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest, check_shards, read_manifest
from input_fn.plan import eval_steps, plan_training

_KNOWN_DATASETS = {CENSUS.name: CENSUS}


@dataclasses.dataclass(frozen=True)
class StepNumbers:
    """The steps of a whole training; the same on every rank.

    Attributes:
        steps_per_epoch: steps of one pass over the training rows.
        max_steps: steps of all epochs.
        save_steps: steps between checkpoints, each followed by an evaluation.
        eval_steps: batches of one evaluation.
    """

    steps_per_epoch: int
    max_steps: int
    save_steps: int
    eval_steps: int


def step_numbers(config: Config, manifest: Manifest, rank_size: int, training: bool = True) -> StepNumbers:
    """Works the step numbers of a training out.

    Args:
        config: settings.
        manifest: of the data.
        rank_size: number of ranks.
        training: False where only an evaluation is asked for; the training's numbers are -1 then.

    Raises:
        ConfigError: the batch size does not go with the data.
    """
    evaluation = eval_steps(manifest.split(TEST_SPLIT), manifest.line_per_sample, config.eval_batch_size, rank_size)
    if not training:
        return StepNumbers(-1, -1, -1, evaluation)
    plan = plan_training(manifest.split(TRAIN_SPLIT), manifest.line_per_sample, config.batch_size, config.window_rows,
                         0, rank_size)
    max_steps = plan.steps_per_epoch * config.train_epoch
    return StepNumbers(plan.steps_per_epoch, max_steps, min(config.eval_interval or plan.steps_per_epoch, max_steps),
                       evaluation)


def load_data(config: Config) -> Manifest:
    """Reads the manifest of the data and checks that the data is there and what this program was built for.

    Raises:
        DataError: naming what is missing or which field differs.
    """
    manifest = read_manifest(config.data_dir)
    check_dataset(manifest, config.data_dir)
    for split in (TRAIN_SPLIT, TEST_SPLIT):
        if not manifest.split(split).rows:
            raise DataError("%s: split %r has no rows; prepare the data again" % (config.data_dir, split))
        # A cut-off file is a number of damaged records to whoever allows them.
        check_shards(manifest, config.data_dir, split, sizes=not config.max_corrupt_records)
    return manifest


def check_weight_column(column: str, manifest: Manifest) -> None:
    """Refuses a weight column for evaluations that the data does not have, or that holds negative values.

    Raises:
        ConfigError: naming the columns that there are.
    """
    if not column:
        return
    known = manifest.dataset.dense_columns
    if column not in known:
        raise ConfigError("eval_weight_column %s is no dense column of the data; it has %s"
                          % (column, ", ".join(known) or "none"))
    least = manifest.dense_statistics[column].minimum
    if least < 0:
        raise ConfigError("eval_weight_column %s has negative values (%g); weights must not be negative"
                          % (column, least))


def check_dataset(manifest: Manifest, data_dir: str) -> None:
    """Refuses data whose definition is not the one of its name.

    Raises:
        DataError: naming the fields that differ.
    """
    expected = _KNOWN_DATASETS.get(manifest.dataset.name)
    if expected is None:
        return
    lines = differences(manifest.dataset, expected)
    if lines:
        raise DataError("%s/manifest.json does not describe the %s dataset of this program: %s; prepare the data again"
                        % (data_dir, expected.name, "; ".join(lines)))


def prepare_model_dir(config: Config, manifest: Manifest, fresh: bool, stream: TextIO) -> int:
    """Makes the model directory ready: deletes for a fresh start, or checks that training may go on.

    Args:
        config: settings.
        manifest: of the data.
        fresh: start over.
        stream: where deletions and warnings are told.

    Returns:
        The step that training goes on from.

    Raises:
        UserError: the directory belongs to another model, or is none that training wrote.
    """
    if fresh:
        _start_over(config.model_dir, stream)
    model_directory.finish_partial_restore(config.model_dir)
    model_directory.check_resumable(config, manifest)
    start = _latest_whole(config.model_dir, stream)
    model_directory.write_settings(config, manifest)
    return start


def _latest_whole(model_dir: str, stream: TextIO) -> int:
    """Makes the latest whole checkpoint the one that TensorFlow restores, and returns its step."""
    known = checkpoints.steps(model_dir)
    step = checkpoints.latest(model_dir, contents=True)
    for number in [number for number in known if step is None or number > step]:
        wrong = checkpoints.problem(model_dir, number, contents=True)
        stream.write("warning: the checkpoint of step %d is not whole (%s); it is set aside in %s and training goes on "
                     "from %s\n" % (number, wrong, checkpoints.set_aside(model_dir, number),
                                    "the start" if step is None else "step %d" % step))
    if step is not None:
        checkpoints.write_state(model_dir, [number for number in known if number <= step])
    if os.path.isdir(model_dir):
        checkpoints.remove_leftovers(model_dir, checkpoints.steps(model_dir))
    history.cut_after(model_dir, step or 0)
    return step or 0


def _start_over(model_dir: str, stream: TextIO) -> None:
    paths: List[str] = model_directory.contents_to_delete(model_dir)
    if paths:
        stream.write("--fresh: deleting %d files and folders of %s: %s\n" % (
            len(paths), model_dir, ", ".join(path[len(model_dir):].lstrip("/") for path in paths)))
        stream.flush()
        model_directory.delete_contents(paths)
