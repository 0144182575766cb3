"""Builds what every command needs: the SDK's life cycle, the input functions and the NPUEstimator."""
import dataclasses
from typing import Any, Callable, List, Optional, Sequence

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


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A configured NPUEstimator and its input functions."""

    run: Run
    estimator: Any
    train_input_fn: Optional[Callable[[], tf.data.Dataset]]  # None where nothing is trained
    eval_input_fn: Callable[[], tf.data.Dataset]
    guard: DataGuard

    def hooks(self, extra: Sequence[Any] = ()) -> List[Any]:
        """Returns a new hook list: the SDK's hook, then the app's own (rec_sdk_api 5.1)."""
        return [GraphModifierHook(modify_graph=self.run.model.config.use_modify_graph), *extra]

    def training_hooks(self, extra: Sequence[Any]) -> List[Any]:
        """Returns the hooks of a training, with the SDK's eviction where the settings ask for it."""
        config = self.run.model.config
        evict = [EvictHook(evict_enable=True, evict_time_interval=config.eviction_interval)] if config.evicts else []
        return self.hooks([*evict, *extra])

    def close(self) -> None:
        """Ends the SDK's host pipeline."""
        terminate_config_initializer()


def build_runtime(run: Run, phase: Phase, warm_start: Any = None) -> Runtime:
    """Initialises the SDK and builds the Estimator for a phase; ``warm_start`` are tf.estimator.WarmStartSettings."""
    model, numbers = run.model, run.numbers
    config = model.config
    guard = DataGuard(model)
    # The SDK's numbers must equal the Estimator's (rec_sdk_api 1.1, 11.4).
    try:
        init(use_dynamic=config.use_dynamic, use_dynamic_expansion=config.use_dynamic_expansion, bind_cpu=True,
             **phase.init_arguments(numbers.eval_steps))
    except (RuntimeError, ValueError) as error:
        raise ConfigError("the Rec SDK cannot start: %s" % error) from error
    specs = FeatureSpecLists()
    admission = Admission(config.access_threshold, config.eviction_threshold if config.evicts else None)
    settings = InputSettings(
        reading=reading(model, run.rank_id, run.rank_size), specs=specs,
        prefetch=config.prefetch or min(_MOST_BATCHES, _BATCHES_PER_THREAD * threads(config.threads)),
        feature_spec_mode=not config.use_modify_graph, lookups=config.lookups,
        admission=admission if config.use_faae else None)
    model_fn = make_model_fn(model, specs, numbers.eval_steps, run.rank_size, (numbers.data_start, numbers.max_steps))
    train_input_fn = None
    if phase.kind != EVALUATE and numbers.plan is not None:
        train_input_fn = make_train_input_fn(
            settings, TRAIN_SPLIT, numbers.plan, numbers.epochs,
            lambda: (checkpoints.latest(config.model_dir) or 0) - numbers.data_start)
    # Where training and evaluation take turns in this process, GridSaver saves in the place of the Estimator's hook.
    save_steps = 0 if phase.kind == TRAIN_AND_EVALUATE else phase.save_steps
    estimator = NPUEstimator(model_fn=model_fn, config=run_config(config, save_steps), warm_start_from=warm_start)
    eval_input_fn = make_eval_input_fn(settings, TEST_SPLIT, config.eval_batch_size)
    return Runtime(run, estimator, train_input_fn, eval_input_fn, guard)


def build_evaluation(model: Model) -> Runtime:
    """Initialises the SDK and builds the Estimator of a process that trains nothing."""
    rank_id, rank_size = sdk.get_rank_id(), sdk.get_rank_size()
    numbers = step_numbers(model.config, model.manifest, 0, rank_id, rank_size, training=False)
    return build_runtime(Run(model, numbers, 0, [], rank_id, rank_size), Phase(EVALUATE, 0, 0))


def run_config(config: Config, save_steps: int) -> Any:
    """Returns the NPURunConfig: keywords only, and only those that every version of npu_bridge has.

    ``save_steps`` are those between checkpoints of the Estimator's own hook; 0 for none.
    """
    # A fresh proto per Estimator: npu_bridge changes it in place (npu_bridge_api 2.1).
    session_config = tf.compat.v1.ConfigProto(
        allow_soft_placement=True, log_device_placement=False,
        # At small batches every op is over sooner than another thread wakes up.
        intra_op_parallelism_threads=config.threads or (1 if config.batch_size <= _SMALL_BATCH else usable_cores()),
        inter_op_parallelism_threads=threads(config.threads))
    return NPURunConfig(
        model_dir=config.model_dir, tf_random_seed=config.seed, save_checkpoints_steps=save_steps,
        save_summary_steps=0, keep_checkpoint_max=config.keep_checkpoint_max, log_step_count_steps=None,
        session_config=session_config, enable_data_pre_proc=True, iterations_per_loop=1)


def threads(configured: int) -> int:
    """Returns the number of threads: as configured, or with 0 one per usable core."""
    return configured or usable_cores()


def reading(model: Model, rank_id: int = 0, rank_size: int = 1) -> Reading:
    """Returns what is read, and how, from the settings and the machine."""
    config = model.config
    return Reading(
        data_dir=config.data_dir, manifest=model.manifest, encoding=model.encoding, seed=config.seed,
        shuffle_rows=config.shuffle_rows, window_rows=config.window_rows, parallel_calls=threads(config.threads),
        rank_id=rank_id, rank_size=rank_size, eval_weight=config.eval_weight_column)
