"""The ``input_fn`` of an Estimator: datasets as the Rec SDK wants them (rec_sdk_api 2.2, 11.9)."""
import dataclasses
from typing import Callable, Optional

import tensorflow as tf
from mx_rec.core.asc.helper import get_asc_insert_func

from feature_specs import sdk
from feature_specs.records import LABEL, TIMESTAMP
from feature_specs.spec_list import Admission, FeatureSpecLists
from input_fn.pipeline import Reading, evaluation_batches, training_batches
from input_fn.plan import TrainPlan


@dataclasses.dataclass(frozen=True)
class InputSettings:
    """How batches are read and what the SDK is told of them."""

    reading: Reading
    specs: FeatureSpecLists  # where the FeatureSpecs are left for model_fn
    prefetch: int  # batches prepared ahead
    feature_spec_mode: bool = True  # FeatureSpecs and the insert function; False with graph modification
    lookups: int = 1  # of a table per step
    admission: Optional[Admission] = None  # and eviction, which need the batch's timestamp; None for neither


def make_train_input_fn(settings: InputSettings, split: str, plan: TrainPlan, epochs: int,
                        start_step: Callable[[], int]) -> Callable[[], tf.data.Dataset]:
    """Returns the input_fn of training; ``start_step``, called when the Dataset is built, returns the batch that it
    begins with, from 0."""
    rows = settings.reading.manifest.split(split)
    return lambda: _for_sdk(training_batches(settings.reading, rows, plan, epochs, start_step()), settings, True)


def make_eval_input_fn(settings: InputSettings, split: str, batch_size: int) -> Callable[[], tf.data.Dataset]:
    """Returns the input_fn of evaluation and prediction: every row once, the last batch padded."""
    rows = settings.reading.manifest.split(split)
    return lambda: _for_sdk(evaluation_batches(settings.reading, rows, batch_size), settings, False)


def _for_sdk(dataset: tf.data.Dataset, settings: InputSettings, is_training: bool) -> tf.data.Dataset:
    if settings.admission is not None:
        dataset = dataset.map(tf.autograph.experimental.do_not_convert(lambda batch: {
            **batch, TIMESTAMP: sdk.return_timestamp(tf.cast(batch[LABEL], tf.int64))}))
    if settings.feature_spec_mode:
        dataset = sdk.mark_end_of_sequence(dataset, is_training)
        tables = [table.name for table in settings.reading.encoding.tables]
        specs = settings.specs.make(is_training, tables, settings.lookups, settings.admission)
        dataset = dataset.map(get_asc_insert_func(tgt_key_specs=specs, is_training=is_training))
    # The SDK requires prefetch as the last stage (rec_sdk_api 5.1).
    return dataset.prefetch(settings.prefetch)
