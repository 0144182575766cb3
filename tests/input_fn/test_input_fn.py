"""What the SDK is given: its insert function, the timestamp, and prefetch at the end."""
import numpy as np
import pytest
import tensorflow as tf

from feature_specs.encoding import make_encoding
from tests.support.small_data import RICH, write_data


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("spec_mode, admits", [(True, False), (True, True), (False, True), (False, False)])
def test_datasets_for_the_sdk(sdk, tmp_path, is_training, spec_mode, admits):
    from feature_specs.spec_list import Admission, FeatureSpecLists
    from input_fn.input_fn import InputSettings, make_eval_input_fn, make_train_input_fn
    from input_fn.pipeline import Reading
    from input_fn.plan import plan_training
    manifest, _ = write_data(tmp_path, 40, 20, dataset=RICH)
    specs = FeatureSpecLists()
    reading = Reading(str(tmp_path), manifest, make_encoding(manifest, "none", 0), 1, 100, 100, 1)
    settings = InputSettings(reading, specs, 2, spec_mode, 2, Admission(3, 60) if admits else None)
    plan = plan_training(manifest.split("train"), 4, 8, 100)
    steps = []
    make = (make_train_input_fn(settings, "train", plan, 1, lambda: steps.append(1) or 3) if is_training
            else make_eval_input_fn(settings, "test", 8))
    dataset = make()
    assert dataset._variant_tensor.op.type == "PrefetchDataset"
    batch = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    with tf.compat.v1.Session() as session:
        count = 0
        while True:
            try:
                values = session.run(batch)
                count += 1
            except tf.errors.OutOfRangeError:
                break
    # Training continues at step 3 of 5; evaluation reads 20 rows.
    assert count == (2 if is_training else 3) and len(steps) == is_training
    assert ("timestamp" in values) == admits
    assert values["sparse_feature_users"].shape == (8, 5) and values["sparse_feature_users"].dtype == np.int64
    if spec_mode:
        assert len(specs.get(is_training)) == 4
    else:
        with pytest.raises(RuntimeError, match="has built no .* dataset"):
            specs.get(is_training)
