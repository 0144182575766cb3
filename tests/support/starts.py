"""Starts of a training up to its first step, in this process."""
import contextlib
import io

from estimator_app import config as config_module
from estimator_app.model.definition import make_model
from estimator_app.training.run_start import TrainRequest, load_data, prepare_run

# The settings of runs.FLAGS.
SETTINGS = {
    "threads": 1, "batch_size": 16, "train_epoch": 3, "eval_interval": 10, "log_interval": 4, "model": "shared_bottom",
    "expert_num": 1, "expert_layers": (8,), "tower_layers": (3,), "embedding_dim": 3, "expert_dropout": 0.1,
    "learning_rate": 0.01, "sparse_learning_rate": 0.02, "dense_bins": 0, "device": "cpu", "keep_checkpoint_max": 2}


def prepare(place, fresh=False, continue_on=False, verify_data=False, warm_start_from="", **changes):
    """Makes the model directory ready as ``train`` does; returns the run and what was told."""
    config = config_module.from_arguments(dict(SETTINGS, data_dir=place.data, model_dir=place.model, **changes),
                                          config_module.read_preset("default"), {})
    request = TrainRequest(make_model(config, load_data(config)), fresh, verify_data, continue_on, warm_start_from)
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        run = prepare_run(request, 1)
    return run, stream.getvalue()
