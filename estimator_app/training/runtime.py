"""Builds what every command needs: the SDK's life cycle, the input functions and the NPUEstimator."""
import dataclasses
from typing import Any, Callable, Dict, List, Optional

import tensorflow as tf
from mx_rec.core.feature_process import EvictHook
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.util.initialize import init, terminate_config_initializer
from npu_bridge.npu_init import NPUEstimator, NPURunConfig, npu_hooks_append

from estimator_app.config import Config
from estimator_app.model.model_fn import ModelContext, make_model_fn
from estimator_app.model_dir import checkpoints
from estimator_app.training import machine
from estimator_app.training import phases as eval_schedule
from estimator_app.training.rollback import skipped_batches
from estimator_app.training.run_start import StepNumbers, check_weight_column, step_numbers
from feature_specs import sdk
from feature_specs.encoding import FeatureEncoding, make_encoding
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest
from feature_specs.spec_list import FeatureSpecLists
from input_fn.input_fn import InputSettings, make_eval_input_fn, make_train_input_fn
from input_fn.plan import TrainPlan, plan_training


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A configured Estimator and its input functions.

    Attributes:
        config: settings.
        manifest: of the data.
        plan: arithmetic of the training pipeline; None where nothing is trained.
        numbers: steps of the whole training and of one evaluation.
        phase: what this process does of the training; None where it only evaluates.
        estimator: the NPUEstimator.
        train_input_fn, eval_input_fn: the input functions.
        rank_id, rank_size: this process among the ranks.
    """

    config: Config
    manifest: Manifest
    plan: Optional[TrainPlan]
    numbers: StepNumbers
    phase: Optional[eval_schedule.Phase]
    estimator: Any
    train_input_fn: Optional[Callable[[], tf.data.Dataset]]
    eval_input_fn: Callable[[], tf.data.Dataset]
    rank_id: int
    rank_size: int

    def hooks(self, extra: Optional[List[Any]] = None) -> List[Any]:
        """Returns a new hook list: the SDK's hook first, npu_bridge's last (rec_sdk_api 5.1).

        Args:
            extra: the app's own hooks.
        """
        hooks: List[Any] = [GraphModifierHook(modify_graph=self.config.use_modify_graph)]
        return npu_hooks_append(hooks + list(extra or []))

    def close(self) -> None:
        """Ends the SDK's host pipeline."""
        terminate_config_initializer()


def build_runtime(config: Config, manifest: Manifest, training: bool, phase: str = "") -> Runtime:
    """Initialises the SDK and builds the Estimator.

    Args:
        config: settings.
        manifest: of ``config.data_dir``.
        training: whether the training pipeline is needed.
        phase: the part of an alternating training that this process does (``train:FROM:TO`` or ``eval:STEP``).

    Raises:
        ConfigError: settings that do not go with the data.
    """
    check_weight_column(config.eval_weight_column, manifest)
    encoding = make_encoding(manifest, config.dense_transform, config.dense_bins, config.drop_dense)
    rank_id, rank_size = sdk.get_rank_id(), sdk.get_rank_size()
    numbers = step_numbers(config, manifest, rank_size, training)
    if phase:
        part = eval_schedule.parse_phase(phase, numbers.eval_steps)
    elif training:
        part = eval_schedule.Phase(eval_schedule.TRAIN_AND_EVALUATE, 0, numbers.max_steps, numbers.save_steps,
                                   numbers.eval_steps)
    else:
        part = eval_schedule.Phase(eval_schedule.EVALUATE, 0, 0, 0, numbers.eval_steps)
    # The SDK's numbers must equal the Estimator's (rec_sdk_api 1.1, 11.4).
    init(use_dynamic=config.use_dynamic, use_dynamic_expansion=config.use_dynamic_expansion, bind_cpu=True,
         **part.init.as_arguments())
    plan: Optional[TrainPlan] = None
    if training:
        plan = plan_training(manifest.split(TRAIN_SPLIT), manifest.line_per_sample, config.batch_size,
                             config.window_rows, rank_id, rank_size)
    specs = FeatureSpecLists()
    settings = input_settings(config, manifest, encoding, specs, rank_id, rank_size)
    model_fn = make_model_fn(ModelContext(config, manifest.dataset, encoding, specs, numbers.eval_steps, rank_size,
                                          numbers.max_steps))
    if config.evicts:
        model_fn = _with_eviction(model_fn, config.eviction_interval)
    train_input_fn = None
    if plan is not None:
        train_input_fn = make_train_input_fn(settings, TRAIN_SPLIT, plan, config.train_epoch,
                                             lambda: checkpoints.latest(config.model_dir) or 0,
                                             lambda: skipped_batches(config.model_dir))
    return Runtime(
        config=config, manifest=manifest, plan=plan, numbers=numbers, phase=part if training else None,
        estimator=NPUEstimator(model_fn=model_fn, config=run_config(config, part.save_steps)),
        train_input_fn=train_input_fn,
        eval_input_fn=make_eval_input_fn(settings, TEST_SPLIT, config.eval_batch_size),
        rank_id=rank_id, rank_size=rank_size)


def _with_eviction(model_fn: Callable[..., tf.estimator.EstimatorSpec],
                   seconds: int) -> Callable[..., tf.estimator.EstimatorSpec]:
    """Adds the SDK's eviction to the training mode of a model function; its hook follows GraphModifierHook."""
    def evicting_model_fn(features: Dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        spec = model_fn(features, labels, mode)
        if mode != tf.estimator.ModeKeys.TRAIN:
            return spec
        hook = EvictHook(evict_enable=True, evict_time_interval=seconds)
        return spec._replace(training_hooks=[hook] + list(spec.training_hooks))

    return evicting_model_fn


def run_config(config: Config, save_steps: int) -> Any:
    """Returns the NPURunConfig: keywords only, and only those that every version of npu_bridge has.

    Args:
        config: settings.
        save_steps: steps between checkpoints; 0 saves none.
    """
    # A fresh proto per Estimator: npu_bridge changes it in place (npu_bridge_api 2.1).
    session_config = tf.compat.v1.ConfigProto(
        allow_soft_placement=True, log_device_placement=False,
        intra_op_parallelism_threads=machine.intra_op_threads(config.threads, config.batch_size),
        inter_op_parallelism_threads=machine.threads(config.threads))
    return NPURunConfig(
        model_dir=config.model_dir, tf_random_seed=config.seed, save_checkpoints_steps=save_steps,
        save_summary_steps=0, keep_checkpoint_max=config.keep_checkpoint_max, log_step_count_steps=None,
        session_config=session_config, enable_data_pre_proc=True, iterations_per_loop=1)


def input_settings(config: Config, manifest: Manifest, encoding: FeatureEncoding, specs: FeatureSpecLists, rank_id: int,
                   rank_size: int) -> InputSettings:
    """Returns how the input pipeline reads, from the configuration and the machine."""
    threads = machine.threads(config.threads)
    return InputSettings(
        data_dir=config.data_dir, manifest=manifest, encoding=encoding, specs=specs, seed=config.seed,
        shuffle_rows=config.shuffle_rows, window_rows=config.window_rows,
        prefetch=machine.prefetch(config.prefetch, threads),
        parallel_calls=threads, rank_id=rank_id, rank_size=rank_size,
        feature_spec_mode=not config.use_modify_graph, lookups=config.lookups, use_timestamp=config.use_faae,
        access_threshold=config.access_threshold if config.use_faae else None,
        eviction_threshold=config.eviction_threshold if config.evicts else None,
        eval_weight_column=config.eval_weight_column)
