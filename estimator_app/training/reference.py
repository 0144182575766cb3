"""Predicts evaluation rows with the Estimator: what an export is checked against.

``python -m estimator_app.training.reference --model_dir M --checkpoint PATH --data_dir D --rows N --output FILE``;
on a CPU, in a process of its own, so that serving loads no SDK.
"""
import argparse
import itertools
import sys
from typing import Sequence

import numpy as np
import tensorflow as tf

from estimator_app.config import CPU
from estimator_app.device import prepare_device
from estimator_app.model.definition import make_model
from estimator_app.model_dir import directory
from feature_specs.data_files import check_shards
from feature_specs.errors import UserError
from feature_specs.manifest import TEST_SPLIT, read_manifest


def main(arguments: Sequence[str]) -> int:
    """Writes {output: float32 [rows]} as an npz file."""
    parser = argparse.ArgumentParser(prog="estimator_app.training.reference")
    for name in ("model_dir", "checkpoint", "data_dir", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parsed = parser.parse_args(list(arguments))
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    prepare_device(CPU)
    from estimator_app.training.runtime import evaluation_runtime
    config, _ = directory.read_settings(parsed.model_dir, {"data_dir": parsed.data_dir, "device": CPU})
    model = make_model(config, read_manifest(parsed.data_dir))
    check_shards(model.manifest, config.data_dir, TEST_SPLIT)
    runtime, names = evaluation_runtime(model), model.tasks.output_names()
    with runtime.guard.explained_errors(TEST_SPLIT):
        predicted = runtime.estimator.predict(runtime.eval_input_fn, hooks=runtime.hooks(), predict_keys=names,
                                              checkpoint_path=parsed.checkpoint)
        rows = [[row[name][0] for name in names] for row in itertools.islice(predicted, parsed.rows)]
    np.savez(parsed.output, **dict(zip(names, np.array(rows, np.float32).T)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as problem:
        # The export shows this line.
        sys.stderr.write("error: %s\n" % problem)
        sys.exit(1)
