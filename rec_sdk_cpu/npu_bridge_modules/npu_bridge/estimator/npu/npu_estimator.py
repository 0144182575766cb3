"""Stands in for ``npu_bridge.estimator.npu.npu_estimator``: NPUEstimator and NPUEstimatorSpec (npu_bridge_api 2)."""
import inspect
import os
import random
import string
import sys
from typing import Any, Callable, Dict, List, Optional

import tensorflow as tf
from tensorflow.python.util import function_utils
from tensorflow_estimator.python.estimator import model_fn as model_fn_lib
from tensorflow_estimator.python.estimator import run_config as run_config_lib

from rec_sdk_cpu.npu_bridge_modules import device_options
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common, npu_hook
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import NPURunConfig

_ModelFn = Callable[..., tf.estimator.EstimatorSpec]
_CHANNEL = "npu_host_call"


class NPUEstimatorSpec(tf.estimator.EstimatorSpec):
    """An EstimatorSpec with a host call: a function that builds host ops from tensors of the step.

    Source: npu_bridge_api 1.5.
    """

    def __new__(cls, mode: str, predictions: Any = None, loss: Optional[tf.Tensor] = None,
                train_op: Optional[tf.Operation] = None, eval_metric_ops: Optional[Dict[str, Any]] = None,
                export_outputs: Optional[Dict[str, Any]] = None, training_chief_hooks: Any = None,
                training_hooks: Any = None, scaffold: Optional[tf.compat.v1.train.Scaffold] = None,
                evaluation_hooks: Any = None, prediction_hooks: Any = None,
                host_call: Any = None) -> "NPUEstimatorSpec":
        """Makes a checked spec; the other arguments are EstimatorSpec's.

        Args:
            mode: a tf.estimator.ModeKeys.
            predictions: see EstimatorSpec.
            loss: scalar float tensor.
            train_op: op of one step.
            eval_metric_ops: {name: (value, update op)}.
            export_outputs: {signature name: ExportOutput}.
            training_chief_hooks: hooks of the chief.
            training_hooks: hooks of training.
            scaffold: see EstimatorSpec.
            evaluation_hooks: hooks of evaluation.
            prediction_hooks: hooks of prediction.
            host_call: (function, list, tuple or dict of tensors) or None.

        Raises:
            ValueError: host_call is not a pair, or its second element no list, tuple or dict.
            TypeError: the first element of host_call is not callable.
            RuntimeError: the function takes another number of arguments than the list has.
        """
        if host_call is not None:
            _check_host_call(host_call)
        spec = super().__new__(
            cls, mode=mode, predictions=predictions, loss=loss, train_op=train_op, eval_metric_ops=eval_metric_ops,
            export_outputs=export_outputs, training_chief_hooks=training_chief_hooks, training_hooks=training_hooks,
            scaffold=scaffold, evaluation_hooks=evaluation_hooks, prediction_hooks=prediction_hooks)
        spec.host_call = host_call
        return spec


class NPUEstimator(tf.compat.v1.estimator.Estimator):
    """An Estimator that carries an NPURunConfig's options to the device and adds the device's hooks.

    ``train``, ``evaluate``, ``predict`` and the exports are TensorFlow's. With ``iterations_per_loop`` > 1 a run makes
    that many steps, and hooks see the global step after each run only, as on a device.

    Source: npu_bridge_api 2.1-2.6.
    """

    def __init__(self, model_fn: Optional[_ModelFn] = None, model_dir: Optional[str] = None,
                 config: Optional[NPURunConfig] = None, params: Any = None, job_start_file: str = "",
                 warm_start_from: Any = None) -> None:
        """Builds the estimator in the order of the real constructor.

        Args:
            model_fn: function with an argument ``features`` and any of labels, mode, params, config; returns an
                EstimatorSpec or NPUEstimatorSpec.
            model_dir: directory of the model; None = the configuration's, else ``./model_dir_<10 characters>``.
            config: an NPURunConfig. Its session_config, where given, is mutated in place, so two estimators must not
                share one.
            params: passed to model_fn as a deep copy; any object.
            job_start_file: path of a scheduler's job file; ignored where it cannot be read.
            warm_start_from: checkpoint path or WarmStartSettings; where false, the environment variables
                LOCAL_CHECKPOINT_DIR and RESTORE_FROM are used, in this order.

        Raises:
            ValueError: config is not an NPURunConfig; model_fn has no ``features`` or cannot take params; JOB_ID is
                not set; model_dir contradicts the configuration; or an option would be refused by the device when the
                session opens (npu_bridge_api 1.4) or would stop its loop (2.6).
            TypeError: an option's type does not fit its field in the session's configuration.

        Source: npu_bridge_api 2.1.
        """
        if not isinstance(config, NPURunConfig):
            raise ValueError("`config` must be provided with type `NPUConfigs` (an NPURunConfig), but %s was given"
                             % type(config).__name__)
        if model_fn is None:
            raise ValueError("model_fn must be provided to NPUEstimator")
        model_fn_lib.verify_model_fn_args(model_fn, params or None)
        device_options.check(config)
        npu_config: NPURunConfig = config if config.session_config is not None else run_config_lib.RunConfig.replace(
            config, session_config=tf.compat.v1.ConfigProto())
        device_options.write(npu_config, npu_config.session_config)
        _check_loop(npu_config)
        self._job_info = _job_info(job_start_file)
        model_dir = _choose_model_dir(model_dir, npu_config)
        warm_start_from = warm_start_from or os.getenv("LOCAL_CHECKPOINT_DIR") or os.getenv("RESTORE_FROM") or None
        # The wrapper always declares params: passing none would make TensorFlow warn about every model_fn.
        super().__init__(model_fn=self._wrap(model_fn), model_dir=model_dir, config=npu_config, params=params or {},
                         warm_start_from=warm_start_from)

    def _assert_members_are_not_overridden(self) -> None:
        """Allows what TensorFlow refuses: subclasses of NPUEstimator may override train and the like."""

    def _wrap(self, model_fn: _ModelFn) -> _ModelFn:
        accepted = set(function_utils.fn_args(model_fn))

        def npu_model_fn(features: Any, labels: Any, mode: str, params: Any) -> tf.estimator.EstimatorSpec:
            offered = {"labels": labels, "mode": mode, "params": params, "config": self.config}
            spec = model_fn(features=features, **{name: offered[name] for name in offered if name in accepted})
            if mode == tf.estimator.ModeKeys.TRAIN:
                return self._training_spec(spec)
            if mode == tf.estimator.ModeKeys.EVAL:
                _check_spec(spec)
                return spec._replace(evaluation_hooks=_outfeed_hooks(spec) + list(spec.evaluation_hooks))
            return spec

        return npu_model_fn

    def _training_spec(self, spec: Any) -> tf.estimator.EstimatorSpec:
        _check_spec(spec)
        config = self._config
        hooks: List[tf.estimator.SessionRunHook] = []
        if self._job_info.rank_size > 1 and not config.horovod_mode:
            hooks.append(npu_hook.NPUBroadcastGlobalVariablesHook(0, self._job_info.rank_index))
        if config.save_checkpoints_steps or config.save_checkpoints_secs:
            hooks.append(npu_hook.NPUCheckpointSaverHook(
                checkpoint_dir=self.model_dir, save_secs=config.save_checkpoints_secs,
                save_steps=config.save_checkpoints_steps,
                saver=npu_hook.NPUSaver(max_to_keep=config.keep_checkpoint_max)))
        hooks.extend(_outfeed_hooks(spec))
        train_op = spec.train_op
        if config.iterations_per_loop > 1:
            hooks.append(npu_hook.SetIterationsVarHook(config.iterations_per_loop))
            train_op = tf.group(train_op, name="IterationOp")
        return spec._replace(train_op=train_op, training_hooks=hooks + list(spec.training_hooks))

    def _convert_train_steps_to_hooks(self, steps: Optional[int],
                                      max_steps: Optional[int]) -> List[tf.estimator.SessionRunHook]:
        """Checks the number of steps of a training call, then makes TensorFlow's stop hook."""
        iterations = self._config.iterations_per_loop
        for name, value in (("steps", steps), ("max_steps", max_steps)):
            if value is not None and value % iterations:
                raise ValueError("%s=%d is not a multiple of iterations_per_loop=%d: the device makes that many steps "
                                 "per run and would not stop at the last one" % (name, value, iterations))
        return super()._convert_train_steps_to_hooks(steps, max_steps)

    def _call_input_fn(self, input_fn: Callable[..., Any], mode: str, input_context: Any = None) -> Any:
        """Calls input_fn; checks what it returns where the device would make several steps per run."""
        result = super()._call_input_fn(input_fn, mode, input_context)
        if mode == tf.estimator.ModeKeys.TRAIN and self._config.iterations_per_loop > 1:
            _check_loop_input(result)
        return result


def _job_info(job_start_file: str) -> npu_common.JobInfo:
    info = npu_common.NPUBasics(job_start_file).jobinfo
    if info is None:
        raise ValueError("Load job info failed, please check whether `JOB_ID` is set in environment variable (it is "
                         "read once per process: set it before the first NPUEstimator, for example JOB_ID=10086)")
    return info


def _choose_model_dir(model_dir: Optional[str], config: NPURunConfig) -> Optional[str]:
    if model_dir and config.model_dir and os.fspath(model_dir) != config.model_dir:
        raise ValueError("`model_dir` are set both in constructor and `NPURunConfig`, but with different values. In "
                         "constructor: %r, in `NPURunConfig`: %r" % (model_dir, config.model_dir))
    if model_dir or config.model_dir:
        return model_dir
    # The system's generator: a name for a directory must not shift the sequence of a seeded program.
    suffix = "".join(random.SystemRandom().choice(string.ascii_letters + string.digits) for _ in range(10))
    return os.path.join(os.getcwd(), "model_dir_" + suffix)


def _check_loop(config: NPURunConfig) -> None:
    iterations = config.iterations_per_loop
    if iterations == 1:
        return
    if not config.enable_data_pre_proc:
        raise ValueError("iterations_per_loop=%d needs enable_data_pre_proc=True: the device fetches its own batches "
                         "between the steps of a run" % iterations)
    if (config.save_checkpoints_steps or 0) % iterations:
        raise ValueError("save_checkpoints_steps=%d is not a multiple of iterations_per_loop=%d (unset, it is 100): "
                         "the host sees the step number only after each run"
                         % (config.save_checkpoints_steps, iterations))


def _check_loop_input(result: Any) -> None:
    if not isinstance(result, (tf.data.Dataset, tf.compat.v2.data.Dataset)):
        raise ValueError("with iterations_per_loop > 1 input_fn must return a tf.data.Dataset, so that its iterator is "
                         "initializable, but it returned %s: the device aborts on a one-shot iterator"
                         % type(result).__name__)
    if any(dtype == tf.string for dtype in tf.nest.flatten(tf.compat.v1.data.get_output_types(result))):
        raise ValueError("with iterations_per_loop > 1 the dataset must not hold strings: they cannot reach the device")


def _check_spec(spec: Any) -> None:
    if not isinstance(spec, tf.estimator.EstimatorSpec):
        raise RuntimeError("model_fn must return an EstimatorSpec or an NPUEstimatorSpec, but it returned %s"
                           % type(spec).__name__)


def _outfeed_hooks(spec: tf.estimator.EstimatorSpec) -> List[tf.estimator.SessionRunHook]:
    if not isinstance(spec, NPUEstimatorSpec):
        return []
    hooks: List[tf.estimator.SessionRunHook] = []
    if spec.host_call is not None:
        function, tensors = spec.host_call
        result = function(**tensors) if isinstance(tensors, dict) else function(*tensors)
        hooks.append(npu_hook.NPUInfeedOutfeedSessionHook(result, _CHANNEL))
    hooks.append(npu_hook.NPULogOutfeedSessionHook(sys.stderr))
    return hooks


def _check_host_call(host_call: Any) -> None:
    if not isinstance(host_call, (tuple, list)):
        raise ValueError("host_call must be a tuple or list of two elements, but %r was given" % (host_call,))
    if len(host_call) != 2:
        raise ValueError("host_call must have two elements, (function, tensors), but it has %d" % len(host_call))
    function, tensors = host_call
    if not callable(function):
        raise TypeError("host_call[0] must be callable, but %r was given" % (function,))
    if not isinstance(tensors, (tuple, list, dict)):
        raise ValueError("host_call[1] must be a tuple, list or dict of tensors, but %r was given" % (tensors,))
    variadic = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL
                   for parameter in inspect.signature(function).parameters.values())
    arity = len(function_utils.fn_args(function))
    if not isinstance(tensors, dict) and not variadic and len(tensors) != arity:
        raise RuntimeError("host_call[1] has %d tensors, but the function takes %d arguments" % (len(tensors), arity))
