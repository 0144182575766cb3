"""Trainings whose parts run in other processes: phases with an SDK life cycle of their own, and several ranks.

The parent process checks, locks, plans and waits; it imports neither TensorFlow nor the SDK (docs/npu.md, "Periodic
evaluation").
"""
import os
import sys
from typing import Iterator, List, Sequence

from estimator_app.launch import launch
from estimator_app.launch.processes import run_command
from estimator_app.model_dir import history
from estimator_app.model_dir.lock import locked
from estimator_app.training import report, steps
from estimator_app.training.run_start import Run, TrainRequest, announce, begin_stage, nothing_to_train, prepare_run

# Flags of the parent that the phases must not see: what they ask for is done once, before them.
_ONCE = ("--fresh", "--verify_data", "--continue_on")


def alternate(request: TrainRequest, arguments: Sequence[str]) -> int:
    """Trains on this machine's CPU in phases, which see the flags after ``train`` too; returns the exit status of the
    first one that fails, else 0. Raises UserError where the model directory does not fit."""
    with locked(request.model.config.model_dir):
        run = prepare_run(request, 1)
        for phase in _remaining(request, run, steps.plan_phases(run.start, run.numbers, run.owed)):
            command = [sys.executable, "-m", "estimator_app"] + _phase_command(phase, arguments)
            status = run_command(command, dict(os.environ))
            if status:
                return status
    return 0


def launch_ranks(request: TrainRequest, arguments: Sequence[str], eval_mode: str, device: str) -> int:
    """Starts the ranks of a training, which train in phases or in one go; returns the exit status of the launch.

    ``arguments`` are the flags after ``train``, ``eval_mode`` is one of :data:`steps.EVAL_MODES`. Raises UserError
    where the command line, the settings, the data, the model directory or the machine do not fit.
    """
    model, config = request.model, request.model.config

    def stages(ranks: int, flags: List[str]) -> Iterator[List[str]]:
        is_dry = "--dry_run" in arguments or "--dry-run" in arguments
        run = (Run(model, steps.step_numbers(config, model.manifest, 0, 0, ranks), 0, [], 0, ranks) if is_dry
               else prepare_run(request, ranks))
        phases = steps.plan_phases(run.start, run.numbers, run.owed)
        evaluations = sum(phase.kind == steps.EVALUATE for phase in phases)
        if steps.resolve_eval_mode(eval_mode, device, evaluations) == steps.TRAIN_AND_EVALUATE:
            phases = [steps.parse_phase("", run.start, run.numbers)]
        for phase in phases if is_dry else _remaining(request, run, phases):
            yield _phase_command(phase, flags, "--device", device)

    return launch.launch(arguments, config.model_dir, stages=stages, expansion=config.use_dynamic_expansion,
                         device=device, data_dir=config.data_dir, table_bytes=model.needs().memory_bytes,
                         lock=locked(config.model_dir))


def _phase_command(phase: steps.Phase, flags: Sequence[str], *more: str) -> List[str]:
    return ["train", *more, "--phase", phase.flag, *(flag for flag in flags if flag not in _ONCE)]


def _remaining(request: TrainRequest, run: Run, phases: List[steps.Phase]) -> Iterator[steps.Phase]:
    """Yields the phases that are left, each after the one before has ended: evaluations may end the training."""
    done = nothing_to_train(run, history.evaluations(run.config.model_dir))
    if done and not run.owed:
        sys.stdout.write(done + "\n")
        report.complete_report(run.config.model_dir, run.model.tasks)
        return
    announce(run, request.preset)
    for phase in phases:
        if phase.kind != steps.EVALUATE:
            reason = run.stop_reason(history.evaluations(run.config.model_dir))
            if reason:
                sys.stdout.write("early stopping: %s\n" % reason)
                break
            if phase.start == run.start:
                begin_stage(run)
        sys.stdout.flush()
        yield phase
    sys.stdout.write(report.written(run.config.model_dir))
