"""``--eval_mode alternate``: training and evaluation take turns, each in processes with an SDK life cycle of their own.

The parent process plans and waits; it imports neither TensorFlow nor the SDK (docs/npu.md, "Periodic evaluation").
"""
import os
import sys
from typing import List, Optional, Sequence, TextIO

from estimator_app import device
from estimator_app.config import Config
from estimator_app.launch import launch
from estimator_app.metric_names import check_selectable
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.lock import locked
from estimator_app.training import early_stopping
from estimator_app.training import phases as eval_schedule
from estimator_app.training.run_start import load_data, prepare_model_dir, step_numbers
from feature_specs.errors import ConfigError
from feature_specs.manifest import Manifest


def alternate(config: Config, arguments: Sequence[str], fresh: bool, stream: Optional[TextIO] = None) -> int:
    """Trains on this machine's CPU in phases.

    Args:
        config: settings.
        arguments: the flags after ``train``, for the phases' own command lines.
        fresh: start over.
        stream: where warnings go, default standard output.

    Returns:
        The exit status of the first phase that fails, else 0.

    Raises:
        UserError: data, settings or model directory do not fit.
    """
    _check_one_process(config)
    manifest = load_data(config)
    with locked(config.model_dir):
        start = prepare_model_dir(config, manifest, fresh, stream or sys.stdout)
        check_selectable("early_stopping_metric", config.early_stopping_metric, manifest.dataset.task_names)
        reason = early_stopping.look(config)
        if reason:
            (stream or sys.stdout).write("stopped early at step %d: %s; nothing to train\n" % (start, reason))
            return 0
        flags = [flag for flag in arguments if flag != "--fresh"]
        for phase in plan_phases(config, manifest, start, 1):
            command = [sys.executable, "-m", "estimator_app", "train", "--phase", eval_schedule.phase_flag(phase)]
            status = launch.run_command(command + flags, dict(os.environ))
            if status:
                return status
            reason = early_stopping.look(config)
            if reason:
                (stream or sys.stdout).write("early stopping: %s\n" % reason)
                break
    return 0


def launch_on_npus(config: Config, arguments: Sequence[str], fresh: bool, eval_mode: str) -> int:
    """Starts the ranks of an NPU training; they train in phases, or in one go where that is asked for.

    Args:
        config: settings.
        arguments: the flags after ``train``.
        fresh: start over.
        eval_mode: one of :data:`eval_schedule.EVAL_MODES`.

    Returns:
        The exit status of the launch.

    Raises:
        UserError: the command line, the settings, the data, the model directory or the machine do not fit.
    """
    if config.early_stopping_patience:
        raise ConfigError("early_stopping_patience %d does not go with a launch on NPUs, whose phases are planned "
                          "beforehand; use 0" % config.early_stopping_patience)

    def before_start() -> None:
        _check_one_process(config)
        prepare_model_dir(config, load_data(config), fresh, sys.stdout)

    def stages(ranks: int, flags: List[str]) -> List[List[str]]:
        manifest = load_data(config)
        start = 0 if fresh else checkpoints.latest(config.model_dir) or 0
        numbers = step_numbers(config, manifest, ranks)
        evaluations = len(eval_schedule.stops(start, numbers.max_steps, numbers.save_steps))
        if device.resolve_eval_mode(eval_mode, device.NPU, evaluations) == eval_schedule.TRAIN_AND_EVALUATE:
            return [["train", "--device", device.NPU] + flags]
        return [launch.phase_arguments(phase, flags) for phase in plan_phases(config, manifest, start, ranks)]

    return launch.launch(arguments, config.model_dir, stages=stages, before_start=before_start,
                         expansion=config.use_dynamic_expansion)


def _check_one_process(config: Config) -> None:
    if config.on_nan == "restore":
        raise ConfigError("--on_nan restore goes back inside one process: it does not go with --eval_mode alternate "
                          "or several ranks; use --on_nan stop")


def plan_phases(config: Config, manifest: Manifest, start: int, rank_size: int) -> List[eval_schedule.Phase]:
    """Plans the phases from a step to the end of the training."""
    numbers = step_numbers(config, manifest, rank_size)
    evaluated = [entry["global_step"] for entry in history.read(config.model_dir)
                 if entry["kind"] == history.EVALUATION]
    return eval_schedule.plan(eval_schedule.ALTERNATE, start, numbers.max_steps, numbers.save_steps,
                              numbers.eval_steps, max(evaluated) if evaluated else None)
