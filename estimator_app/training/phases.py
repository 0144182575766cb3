"""Periodic evaluation as a sequence of phases, and the step numbers that the SDK must be told in each of them.

The SDK's host pipeline counts the batches of its own process, from 0, and blocks where the numbers given to ``init()``
say so (rec_sdk_api 1.1, 5.2). This module only plans: no process is started and nothing is imported that a phase needs.
``docs/npu.md`` ("Periodic evaluation") explains the choice of mode.
"""
import dataclasses
import re
from typing import Dict, List, Optional, Sequence

from feature_specs.errors import ConfigError

AUTO, TRAIN_AND_EVALUATE, ALTERNATE = "auto", "train_and_evaluate", "alternate"
EVAL_MODES = (AUTO, TRAIN_AND_EVALUATE, ALTERNATE)

TRAIN, EVALUATE = "train", "eval"
_MAX_INT32 = 2 ** 31 - 1
_PHASE = re.compile(r"(train:(?P<start>\d{1,10}):(?P<stop>\d{1,10})|eval:(?P<step>\d{1,10}))\Z")


@dataclasses.dataclass(frozen=True)
class InitNumbers:
    """The step arguments of ``mx_rec.util.initialize.init``; -1 means that the pipeline never blocks there."""

    max_steps: int
    train_steps: int
    eval_steps: int
    save_steps: int

    def as_arguments(self) -> Dict[str, int]:
        """Returns the keyword arguments for ``init()``."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Phase:
    """What one set of rank processes does between its start and its end.

    Attributes:
        kind: ``train``, ``eval`` or ``train_and_evaluate``.
        start: global step of the checkpoint that the phase begins with; 0 where there is none.
        stop: global step at which it ends; of an evaluation: the checkpoint's step, equal to ``start``.
        save_steps: steps between checkpoints, for ``NPURunConfig(save_checkpoints_steps=...)``; 0 in an evaluation.
        eval_steps: batches of one evaluation, for ``evaluate(steps=...)`` or ``EvalSpec(steps=...)``; 0 where the phase
            evaluates nothing.
    """

    kind: str
    start: int
    stop: int
    save_steps: int
    eval_steps: int

    @property
    def init(self) -> InitNumbers:
        """The numbers for ``init()`` (rec_sdk_api 1.1, 5.2, 8).

        Training alone: the Estimator's ``max_steps``, no blocking for an evaluation, and a save interval that is the
        length of the phase, so that the pipeline's process-local count meets the checkpoint at the last step.
        Evaluation alone: only ``eval_steps`` counts. ``train_and_evaluate``: ``train_steps`` equals ``save_steps``.
        """
        if self.kind == TRAIN:
            return InitNumbers(self.stop, -1, -1, self.save_steps)
        if self.kind == EVALUATE:
            return InitNumbers(-1, -1, self.eval_steps, -1)
        return InitNumbers(self.stop, self.save_steps, self.eval_steps, self.save_steps)


def stops(start: int, max_steps: int, save_steps: int) -> List[int]:
    """Returns the global steps of the checkpoints that are still to come: multiples of the interval, and the end.

    Args:
        start: step of the latest checkpoint, 0 for none.
        max_steps: step at which training ends.
        save_steps: steps between checkpoints.

    Raises:
        ConfigError: a number is out of range.
    """
    _check("start", start, 0)
    _check("max_steps", max_steps, 1)
    _check("save_steps", save_steps, 1)
    if start >= max_steps:
        return []
    first = (start // save_steps + 1) * save_steps
    return list(range(first, max_steps, save_steps)) + [max_steps]


def plan(mode: str, start: int, max_steps: int, save_steps: int, eval_steps: int,
         last_evaluated: Optional[int] = None) -> List[Phase]:
    """Plans the rest of a training.

    Args:
        mode: ``train_and_evaluate`` or ``alternate``, as :func:`.device.resolve_eval_mode` returns it.
        start: step of the latest whole checkpoint, 0 for none.
        max_steps: step at which training ends.
        save_steps: steps between checkpoints, each followed by an evaluation.
        eval_steps: batches of one evaluation.
        last_evaluated: step of the latest recorded evaluation. Where it is not ``start``, alternation begins with the
            evaluation that an interrupted run still owes.

    Returns:
        The phases in order, each for a process set of its own. Where nothing is left to train: one evaluation.

    Raises:
        ConfigError: a number is out of range or the mode is not one of the two.
    """
    _check("eval_steps", eval_steps, 1)
    if mode not in (TRAIN_AND_EVALUATE, ALTERNATE):
        raise ConfigError("evaluation mode %r cannot be planned; choose %s or %s"
                          % (mode, TRAIN_AND_EVALUATE, ALTERNATE))
    checkpoints = stops(start, max_steps, save_steps)
    if not checkpoints:
        return [Phase(EVALUATE, start, start, 0, eval_steps)]
    if mode == TRAIN_AND_EVALUATE:
        return [Phase(TRAIN_AND_EVALUATE, start, max_steps, min(save_steps, max_steps - start), eval_steps)]
    phases = []
    if start > 0 and last_evaluated != start:
        phases.append(Phase(EVALUATE, start, start, 0, eval_steps))
    for stop in checkpoints:
        phases.append(Phase(TRAIN, start, stop, stop - start, 0))
        phases.append(Phase(EVALUATE, stop, stop, 0, eval_steps))
        start = stop
    return phases


def phase_flag(phase: Phase) -> str:
    """Returns the value of ``--phase`` that tells a rank process its part: ``train:FROM:TO`` or ``eval:STEP``.

    Raises:
        ConfigError: ``train_and_evaluate`` is no part of a sequence and has no flag.
    """
    if phase.kind == TRAIN:
        return "train:%d:%d" % (phase.start, phase.stop)
    if phase.kind == EVALUATE:
        return "eval:%d" % phase.stop
    raise ConfigError("a %s phase has no --phase flag: it is the whole training" % phase.kind)


def parse_phase(text: str, eval_steps: int) -> Phase:
    """Reads a ``--phase`` value back; the opposite of :func:`phase_flag`.

    Args:
        text: ``train:FROM:TO`` or ``eval:STEP``.
        eval_steps: batches of one evaluation, which the rank process works out from the data.

    Raises:
        ConfigError: it is neither, or a number is out of range.
    """
    match = _PHASE.match(text)
    if not match:
        raise ConfigError("--phase %r is not understood; allowed: train:FROM:TO or eval:STEP (global steps)" % text)
    if match.group("step"):
        step = int(match.group("step"))
        _check("eval_steps", eval_steps, 1)
        _check("the step of --phase", step, 0)
        return Phase(EVALUATE, step, step, 0, eval_steps)
    start, stop = int(match.group("start")), int(match.group("stop"))
    _check("the end of --phase", stop, start + 1)
    return Phase(TRAIN, start, stop, stop - start, 0)


def check_contract(phase: Phase, save_checkpoints_steps: int, max_steps: Optional[int],
                   evaluate_steps: Optional[int]) -> None:
    """Compares what the Estimator is about to do with what the SDK was told; a difference hangs on NPUs.

    Args:
        phase: the phase whose :attr:`Phase.init` numbers went to ``init()``.
        save_checkpoints_steps: of the NPURunConfig.
        max_steps: of ``train()`` or the TrainSpec, None where nothing is trained.
        evaluate_steps: of ``evaluate()`` or the EvalSpec, None where nothing is evaluated.

    Raises:
        ConfigError: naming the numbers that differ (rec_sdk_api 1.1).
    """
    numbers = phase.init
    pairs: List[Sequence[object]] = []
    if phase.kind != EVALUATE:
        pairs.append(("max_steps", numbers.max_steps, max_steps))
        pairs.append(("save_steps", numbers.save_steps, save_checkpoints_steps))
    if phase.kind != TRAIN:
        pairs.append(("eval_steps", numbers.eval_steps, evaluate_steps))
    wrong = ["%s: init() has %s, the Estimator %s" % tuple(pair) for pair in pairs if pair[1] != pair[2]]
    if wrong:
        raise ConfigError("the step numbers of a %s phase differ (%s); the SDK's pipeline would wait for ever"
                          % (phase.kind, "; ".join(wrong)))


def _check(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MAX_INT32:
        raise ConfigError("%s %r is out of range; allowed: whole numbers from %d to %d"
                          % (name, value, low, _MAX_INT32))
