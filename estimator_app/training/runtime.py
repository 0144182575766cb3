"""Builds what every command needs: the SDK's life cycle, the input functions and the NPUEstimator."""
from typing import Any, List, Sequence

import tensorflow as tf
from mx_rec.core.feature_process import EvictHook
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.util.initialize import init, terminate_config_initializer
from npu_bridge.npu_init import NPUEstimator, NPURunConfig

from estimator_app.config import Config
from estimator_app.model.definition import Model
from estimator_app.model.model_fn import make_model_fn
from estimator_app.model_dir import checkpoints
from estimator_app.training.hooks import DataGuard
from estimator_app.training.run_start import Run
from estimator_app.training.steps import EVALUATE, TRAIN_AND_EVALUATE, Phase, step_numbers
from feature_specs import sdk
from feature_specs.cores import usable_cores
from feature_specs.errors import ConfigError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT
from feature_specs.spec_list import Admission, FeatureSpecLists
from input_fn.input_fn import InputSettings, make_eval_input_fn, make_train_input_fn
from input_fn.pipeline import Reading

_BATCHES_PER_THREAD, _MOST_BATCHES = 4, 64
_SMALL_BATCH = 64


class Runtime:
    """The SDK, initialised for a phase of a run, an NPUEstimator and its input functions.

    ``warm_start`` are tf.estimator.WarmStartSettings. Raises ConfigError where the SDK cannot start.
    """

    def __init__(self, run: Run, phase: Phase, warm_start: Any = None):
        model, config, numbers = run.model, run.config, run.numbers
        self.run, self.guard = run, DataGuard(model)
        # The SDK's numbers must equal the Estimator's (rec_sdk_api 1.1, 11.4).
        try:
            init(use_dynamic=config.use_dynamic, use_dynamic_expansion=config.use_dynamic_expansion, bind_cpu=True,
                 **phase.init_arguments(numbers.eval_steps))
        except (RuntimeError, ValueError) as error:
            raise ConfigError("the Rec SDK cannot start: %s" % error) from error
        specs, batches = FeatureSpecLists(), reading(model, run.rank_id, run.rank_size)
        admission = Admission(config.access_threshold, config.eviction_threshold if config.evicts else None)
        settings = InputSettings(
            reading=batches, specs=specs,
            prefetch=config.prefetch or min(_MOST_BATCHES, _BATCHES_PER_THREAD * batches.parallel_calls),
            feature_spec_mode=not config.use_modify_graph, lookups=config.lookups,
            admission=admission if config.use_faae else None)
        # Where training and evaluation take turns in this process, GridSaver saves instead of the Estimator's own hook.
        save_steps = 0 if phase.kind == TRAIN_AND_EVALUATE else phase.save_steps
        self.estimator = NPUEstimator(
            model_fn=make_model_fn(model, specs, numbers.eval_steps, run.rank_size,
                                   (numbers.data_start, numbers.max_steps)),
            config=run_config(config, save_steps), warm_start_from=warm_start)
        self.train_input_fn = None if numbers.plan is None else make_train_input_fn(
            settings, TRAIN_SPLIT, numbers.plan, numbers.epochs,
            lambda: (checkpoints.latest(config.model_dir) or 0) - numbers.data_start)
        self.eval_input_fn = make_eval_input_fn(settings, TEST_SPLIT, config.eval_batch_size)

    def hooks(self, extra: Sequence[Any] = ()) -> List[Any]:
        """Returns a new hook list: the SDK's hook, then the app's own (rec_sdk_api 5.1)."""
        return [GraphModifierHook(modify_graph=self.run.config.use_modify_graph), *extra]

    def training_hooks(self, extra: Sequence[Any]) -> List[Any]:
        """Returns the hooks of a training, with the SDK's eviction where the settings ask for it."""
        config = self.run.config
        evict = [EvictHook(evict_enable=True, evict_time_interval=config.eviction_interval)] if config.evicts else []
        return self.hooks([*evict, *extra])

    def close(self) -> None:
        """Ends the SDK's host pipeline."""
        terminate_config_initializer()


def evaluation_runtime(model: Model) -> Runtime:
    """Returns the runtime of a process that trains nothing."""
    rank_id, rank_size = sdk.get_rank_id(), sdk.get_rank_size()
    numbers = step_numbers(model.config, model.manifest, 0, rank_id, rank_size, training=False)
    return Runtime(Run(model, numbers, 0, [], rank_id, rank_size), Phase(EVALUATE, 0, 0))


def run_config(config: Config, save_steps: int) -> Any:
    """Returns the NPURunConfig, with keywords that every version of npu_bridge has; the Estimator's own hook saves
    every ``save_steps``, 0 for never."""
    # A fresh proto per Estimator: npu_bridge changes it in place (npu_bridge_api 2.1).
    session_config = tf.compat.v1.ConfigProto(
        allow_soft_placement=True, log_device_placement=False,
        # At small batches every op is over sooner than another thread wakes up.
        intra_op_parallelism_threads=config.threads or (1 if config.batch_size <= _SMALL_BATCH else usable_cores()),
        inter_op_parallelism_threads=config.threads or usable_cores())
    return NPURunConfig(
        model_dir=config.model_dir, tf_random_seed=config.seed, save_checkpoints_steps=save_steps,
        save_summary_steps=0, keep_checkpoint_max=config.keep_checkpoint_max, log_step_count_steps=None,
        session_config=session_config, enable_data_pre_proc=True, iterations_per_loop=1)


def reading(model: Model, rank_id: int = 0, rank_size: int = 1) -> Reading:
    """Returns what is read, and how, from the settings and the machine."""
    config = model.config
    return Reading(
        data_dir=config.data_dir, manifest=model.manifest, encoding=model.encoding, seed=config.seed,
        shuffle_rows=config.shuffle_rows, window_rows=config.window_rows,
        parallel_calls=config.threads or usable_cores(),
        rank_id=rank_id, rank_size=rank_size, eval_weight=config.eval_weight_column)
