"""The Rec SDK's way of exporting a SavedModel: straight into the given directory (rec_sdk_api 5.5)."""
import os
from typing import Any, Callable, Dict, Optional

import tensorflow as tf

_ORDER = (tf.estimator.ModeKeys.TRAIN, tf.estimator.ModeKeys.EVAL, tf.estimator.ModeKeys.PREDICT)


def patched_export_all_saved_models(self: tf.compat.v1.estimator.Estimator, export_dir_base: str,
                                    input_receiver_fn_map: Dict[str, Callable[[], Any]],
                                    assets_extra: Optional[Dict[str, str]] = None, as_text: bool = False,
                                    checkpoint_path: Optional[str] = None, strip_default_attrs: bool = True) -> bytes:
    """Writes a SavedModel without a timestamped subdirectory; takes the place of Estimator._export_all_saved_models.

    Args:
        self: the estimator.
        export_dir_base: the directory to write; it must be absent or empty.
        input_receiver_fn_map: {mode: function that returns the mode's input receiver}.
        assets_extra: {path below assets.extra: file to copy}.
        as_text: write the graph as text.
        checkpoint_path: checkpoint to export; None = the newest of model_dir, else the warm start's.
        strip_default_attrs: leave attributes with default values out of the graph.

    Returns:
        path of the directory, as bytes.

    Raises:
        ValueError: there is no checkpoint, or no mode to export.
        AssertionError: the directory is not empty.

    Source: rec_sdk_api 5.5.
    """
    with tf.Graph().as_default():
        checkpoint_path = checkpoint_path or _latest_checkpoint(self)
        modes = [mode for mode in _ORDER if input_receiver_fn_map.get(mode)]
        if not modes:
            raise ValueError("No valid modes for exporting found. Got %s." % sorted(input_receiver_fn_map))
        # The builder asserts that the directory is absent or empty.
        builder = tf.compat.v1.saved_model.Builder(export_dir_base)
        # Only the first mode's graph carries the variables.
        for mode in modes:
            self._add_meta_graph_for_mode(builder, input_receiver_fn_map, checkpoint_path, mode is modes[0], mode=mode,
                                          strip_default_attrs=strip_default_attrs)
        builder.save(as_text)
    for target, source in (assets_extra or {}).items():
        path = os.path.join(export_dir_base, "assets.extra", target)
        tf.io.gfile.makedirs(os.path.dirname(path))
        tf.io.gfile.copy(source, path)
    return tf.compat.as_bytes(export_dir_base)


def _latest_checkpoint(estimator: tf.compat.v1.estimator.Estimator) -> str:
    checkpoint = tf.train.latest_checkpoint(estimator.model_dir)
    if checkpoint:
        return checkpoint
    settings = estimator._warm_start_settings
    if not settings:
        raise ValueError("Couldn't find trained model at %s." % estimator.model_dir)
    path = settings.ckpt_to_initialize_from
    return tf.train.latest_checkpoint(path) if tf.io.gfile.isdir(path) else path
