"""Periodic evaluation as a sequence of phases, and the step numbers that the SDK must be told in each of them.

The SDK's host pipeline counts the batches of its own process, from 0, and blocks where the numbers given to ``init()``
say so (rec_sdk_api 1.1, 5.2); ``docs/npu.md`` ("Periodic evaluation") explains the choice of mode.
"""
import dataclasses
import re
from typing import Dict, List, Optional, Sequence

from estimator_app.config import NPU, Config
from feature_specs.errors import ConfigError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest
from input_fn.plan import TrainPlan, eval_steps, plan_training

AUTO, TRAIN_AND_EVALUATE, ALTERNATE = "auto", "train_and_evaluate", "alternate"
EVAL_MODES = (AUTO, TRAIN_AND_EVALUATE, ALTERNATE)

TRAIN, EVALUATE = "train", "eval"
_ALL = "all"
_MAX_INT32 = 2 ** 31 - 1
# What --train_epoch 0 makes of the data; chosen on validation rows, see docs/quality.md.
_ENOUGH_STEPS, _FEWEST_PASSES, _MOST_PASSES = 1500, 2, 10
_ENOUGH_STEPS_OF_RARE, _MOST_PASSES_OF_RARE = 70, 8
_LEAST_STEPS = 40  # of a tiny table, however many passes that is
_PHASE = re.compile(r"(train:(?P<start>\d{1,10}):|eval:)(?P<stop>\d{1,10})\Z")


@dataclasses.dataclass(frozen=True)
class StepNumbers:
    """The steps of a training on one data directory; the same on every rank but for its ``plan``."""

    data_start: int  # global step at which training on this data began
    steps_per_epoch: int  # of one pass over the training rows
    max_steps: int  # global step at which training ends
    save_steps: int  # between checkpoints, each followed by an evaluation
    eval_steps: int  # batches of one evaluation
    plan: Optional[TrainPlan] = None  # of this rank's training pipeline; None where nothing is trained

    @property
    def epochs(self) -> int:
        """Passes over the training rows."""
        return (self.max_steps - self.data_start) // self.steps_per_epoch

    def is_evaluated(self, step: int) -> bool:
        """Returns whether an evaluation belongs to a step: every ``save_steps``, and at the end."""
        return step > self.data_start and ((step - self.data_start) % self.save_steps == 0 or step == self.max_steps)


def step_numbers(config: Config, manifest: Manifest, data_start: int, rank_id: int, rank_size: int,
                 training: bool = True) -> StepNumbers:
    """Computes the step numbers of a training; with ``training`` False of an evaluation only, the others are -1 then.

    Raises ConfigError where the batch size does not go with the data.
    """
    evaluation = eval_steps(manifest.split(TEST_SPLIT), manifest.line_per_sample, config.eval_batch_size, rank_size)
    if not training:
        return StepNumbers(0, -1, -1, -1, evaluation)
    plan = plan_training(manifest.split(TRAIN_SPLIT), manifest.line_per_sample, config.batch_size, config.window_rows,
                         rank_id, rank_size)
    steps = plan.steps_per_epoch * (config.train_epoch or epochs_of(manifest, plan.steps_per_epoch))
    _check("the last step of the training", data_start + steps, 1)
    return StepNumbers(data_start, plan.steps_per_epoch, data_start + steps,
                       min(config.eval_interval or plan.steps_per_epoch, steps), evaluation, plan)


def epochs_of(manifest: Manifest, steps_per_epoch: int) -> int:
    """Returns the passes over the training rows where the settings leave them to the data.

    Values that come few times each are learnt by heart in further passes, and scores of other rows fall: one pass
    there, or as many as make a few steps at least. Where every value comes often, as many passes as make enough steps.
    A tiny table with more rows than values gets the least number of steps from which anything is learnt. Rows that
    continue other data are passed once.
    """
    if manifest.continues:
        return 1
    least = -(-_LEAST_STEPS // steps_per_epoch) if manifest.split(
        TRAIN_SPLIT).rows >= manifest.different_values else 0
    if manifest.has_rare_values:
        return max(least, min(-(-_ENOUGH_STEPS_OF_RARE // steps_per_epoch), _MOST_PASSES_OF_RARE))
    return max(least, min(max(-(-_ENOUGH_STEPS // steps_per_epoch), _FEWEST_PASSES), _MOST_PASSES))


@dataclasses.dataclass(frozen=True)
class Phase:
    """What one set of rank processes does between its start and its end."""

    kind: str  # TRAIN, EVALUATE or TRAIN_AND_EVALUATE
    start: int  # global step of the checkpoint that the phase begins with; 0 where there is none
    stop: int  # global step at which it ends; of an evaluation: the checkpoint's step, equal to ``start``
    save_steps: int = 0  # between checkpoints, for ``NPURunConfig(save_checkpoints_steps=...)``; 0 in an evaluation

    def init_arguments(self, eval_steps: int) -> Dict[str, int]:
        """Returns the step numbers for ``mx_rec.util.initialize.init`` (rec_sdk_api 1.1, 5.2, 8); -1: it never blocks.

        Training alone: the Estimator's ``max_steps``, no blocking for an evaluation, and a save interval that is the
        length of the phase, so that the pipeline's process-local count meets the checkpoint at the last step.
        Evaluation alone: only ``eval_steps`` counts. ``train_and_evaluate``: ``train_steps`` equals ``save_steps``.
        """
        trains, evaluates = self.kind != EVALUATE, self.kind != TRAIN
        return {"max_steps": self.stop if trains else -1, "save_steps": self.save_steps if trains else -1,
                "train_steps": self.save_steps if trains and evaluates else -1,
                "eval_steps": eval_steps if evaluates else -1}

    @property
    def flag(self) -> str:
        """The value of ``--phase`` that tells a rank process its part: ``train:FROM:TO``, ``eval:STEP`` or ``all``."""
        return {TRAIN: "train:%d:%d" % (self.start, self.stop), EVALUATE: "eval:%d" % self.stop}.get(self.kind, _ALL)


def stops(start: int, numbers: StepNumbers) -> List[int]:
    """Returns the global steps of the checkpoints that are still to come after a step: the grid, and the end."""
    first = start - (start - numbers.data_start) % numbers.save_steps + numbers.save_steps
    return list(range(first, numbers.max_steps, numbers.save_steps)) + (
        [numbers.max_steps] if start < numbers.max_steps else [])


def plan_phases(start: int, numbers: StepNumbers, owed: Sequence[int]) -> List[Phase]:
    """Returns the phases of the rest of a training in which every evaluation has processes of its own, in order.

    ``start`` is the step of the latest whole checkpoint, ``owed`` are those of checkpoints whose evaluation an
    interrupted run still owes. Where nothing is left to train or owed: one evaluation.
    """
    phases = [Phase(EVALUATE, step, step) for step in owed]
    for stop in stops(start, numbers):
        phases += [Phase(TRAIN, start, stop, stop - start), Phase(EVALUATE, stop, stop)]
        start = stop
    return phases or [Phase(EVALUATE, start, start)]


def resolve_eval_mode(requested: str, device: str, evaluations: int) -> str:
    """Returns how training and evaluation take turns, of which ``auto`` leaves the choice to the device.

    Raises ConfigError where more than one of the ``evaluations`` that are left would be made by ``train_and_evaluate``
    on NPUs, which the SDK's documentation excludes (rec_sdk_api 5.2).
    """
    if requested == AUTO:
        return ALTERNATE if device == NPU else TRAIN_AND_EVALUATE
    if requested == TRAIN_AND_EVALUATE and device == NPU and evaluations > 1:
        raise ConfigError("--eval_mode train_and_evaluate would evaluate %d times in one process, which the Rec SDK "
                          "does not support on NPUs; use --eval_mode alternate, or an --eval_interval of at least the "
                          "whole training for one evaluation at its end" % evaluations)
    return requested


def parse_phase(text: str, start: int, numbers: StepNumbers) -> Phase:
    """Reads a :attr:`Phase.flag` back, else raises ConfigError; empty is ``all``, from the step ``start`` on."""
    if text in ("", _ALL):
        return Phase(TRAIN_AND_EVALUATE, start, numbers.max_steps, numbers.save_steps)
    match = _PHASE.match(text)
    if not match:
        raise ConfigError("--phase %r is not understood; allowed: train:FROM:TO, eval:STEP (global steps) or "
                          "all" % text)
    stop = int(match.group("stop"))
    if match.group("start") is None:
        _check("the step of --phase", stop, 0)
        return Phase(EVALUATE, stop, stop)
    first = int(match.group("start"))
    _check("the end of --phase", stop, first + 1)
    return Phase(TRAIN, first, stop, stop - first)


def _check(name: str, value: int, low: int) -> None:
    if not low <= value <= _MAX_INT32:
        raise ConfigError("%s %r is out of range; allowed: whole numbers from %d to %d"
                          % (name, value, low, _MAX_INT32))
