"""The ``input_fn`` of an Estimator: datasets as the Rec SDK wants them (rec_sdk_api 2.2, 11.9)."""
import dataclasses
from typing import Callable, Optional, Sequence

import tensorflow as tf
from mx_rec.core.asc.helper import get_asc_insert_func

from feature_specs import sdk
from feature_specs.dataset import TIMESTAMP
from feature_specs.encoding import FeatureEncoding
from feature_specs.manifest import Manifest
from feature_specs.spec_list import FeatureSpecLists, create_feature_spec_list
from input_fn.pipeline import evaluation_batches, training_batches, with_timestamp
from input_fn.plan import TrainPlan


@dataclasses.dataclass(frozen=True)
class InputSettings:
    """How batches are read and what the SDK is told of them.

    Attributes:
        data_dir: the prepared data.
        manifest: its manifest.
        encoding: constants of the encoding.
        specs: where the FeatureSpec lists are left for model_fn.
        seed: of all shuffling.
        shuffle_rows: rows in the record shuffle buffer; 0 keeps the order.
        window_rows: rows parsed together.
        prefetch: batches prepared ahead.
        parallel_calls: windows parsed at a time.
        rank_id, rank_size: share of the records.
        feature_spec_mode: FeatureSpecs and the insert function; False with graph modification.
        lookups: lookups of the table per step.
        use_timestamp: adds the batch's timestamp.
        access_threshold, eviction_threshold: admission and eviction, or None.
        eval_weight_column: dense column whose raw values evaluation batches carry; empty for none.
        max_train_steps, max_eval_steps: for the end-of-sequence mark; -1 for no limit.
    """

    data_dir: str
    manifest: Manifest
    encoding: FeatureEncoding
    specs: FeatureSpecLists
    seed: int
    shuffle_rows: int
    window_rows: int
    prefetch: int
    parallel_calls: int
    rank_id: int = 0
    rank_size: int = 1
    feature_spec_mode: bool = True
    lookups: int = 1
    use_timestamp: bool = False
    access_threshold: Optional[int] = None
    eviction_threshold: Optional[int] = None
    eval_weight_column: str = ""
    max_train_steps: int = -1
    max_eval_steps: int = -1


def make_train_input_fn(settings: InputSettings, split: str, plan: TrainPlan, epochs: int,
                        start_step: Callable[[], int],
                        skipped: Callable[[], Sequence[int]] = tuple) -> Callable[[], tf.data.Dataset]:
    """Returns the input_fn of training.

    Args:
        settings: how to read.
        split: name of the split.
        plan: arithmetic of the pipeline.
        epochs: passes over the data.
        start_step: called when the dataset is built; the global step that training continues from.
        skipped: called when the dataset is built; the batches that are left out.

    Returns:
        A function without arguments that returns the Dataset, positioned at the start step.
    """
    def train_input_fn() -> tf.data.Dataset:
        manifest = settings.manifest
        dataset = training_batches(
            settings.data_dir, manifest.split(split).shards, manifest.dataset, settings.encoding, plan, epochs,
            settings.seed, settings.shuffle_rows, start_step(), settings.rank_id, settings.rank_size,
            settings.parallel_calls, skipped())
        return _for_sdk(dataset, settings, True)

    return train_input_fn


def make_eval_input_fn(settings: InputSettings, split: str, batch_size: int) -> Callable[[], tf.data.Dataset]:
    """Returns the input_fn of evaluation and prediction: every row once, the last batch padded.

    Args:
        settings: how to read.
        split: name of the split.
        batch_size: rows per batch.
    """
    def eval_input_fn() -> tf.data.Dataset:
        manifest = settings.manifest
        dataset = evaluation_batches(
            settings.data_dir, manifest.split(split).shards, manifest.dataset, settings.encoding,
            manifest.line_per_sample, batch_size, settings.window_rows, settings.rank_id, settings.rank_size,
            settings.parallel_calls, settings.eval_weight_column)
        return _for_sdk(dataset, settings, False)

    return eval_input_fn


def _for_sdk(dataset: tf.data.Dataset, settings: InputSettings, is_training: bool) -> tf.data.Dataset:
    if settings.use_timestamp:
        dataset = dataset.map(with_timestamp(TIMESTAMP, sdk.return_timestamp))
    if settings.feature_spec_mode:
        dataset = sdk.mark_end_of_sequence(dataset, is_training, settings.max_train_steps,
                                                  settings.max_eval_steps)
        specs = create_feature_spec_list(
            settings.manifest.dataset, settings.lookups, settings.use_timestamp, settings.access_threshold,
            settings.eviction_threshold)
        settings.specs.put(specs, is_training)
        dataset = dataset.map(get_asc_insert_func(tgt_key_specs=specs, is_training=is_training))
    # The SDK requires prefetch as the last stage (rec_sdk_api 5.1).
    return dataset.prefetch(settings.prefetch)
