"""Arithmetic of an input pipeline: how many steps, and where in the data a given step begins."""
import dataclasses
import math
from typing import NamedTuple

from feature_specs.checks import refuse
from feature_specs.manifest import Split

_MAX_WINDOW_ROWS = 1 << 20


class RankShare(NamedTuple):
    """What one rank reads in an epoch: full records, and rows of the partial one where that is its own."""

    full_records: int
    partial_rows: int


class Position(NamedTuple):
    """Where a batch begins, all from 0: epoch, window of the epoch, batch inside the window."""

    epoch: int
    window: int
    batch: int


def rank_share(split: Split, line_per_sample: int, rank_id: int, rank_size: int) -> RankShare:
    """Returns the share of one rank: record i belongs to rank i mod R; the partial record is the last one."""
    full, partial = divmod(split.rows, line_per_sample)
    mine = full // rank_size + (1 if rank_id < full % rank_size else 0)
    return RankShare(mine, partial if full % rank_size == rank_id else 0)


@dataclasses.dataclass(frozen=True)
class TrainPlan:
    """The training pipeline of one rank, in numbers.

    Rows are read in windows of whole batches; a window is shuffled row by row. No window crosses an epoch, and the
    last partial batch of an epoch is dropped (other rows in each epoch, where the data is shuffled).
    """

    batch_size: int
    window_records: int  # records per window
    window_batches: int  # batches per full window
    steps_per_epoch: int  # batches per epoch, the same on every rank: what the rank with the fewest rows has
    share: RankShare

    def position(self, step: int) -> Position:
        """Returns where the batch of a step begins."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return Position(epoch, *divmod(batch, self.window_batches))


def plan_training(split: Split, line_per_sample: int, batch_size: int, window_rows: int, rank_id: int = 0,
                  rank_size: int = 1) -> TrainPlan:
    """Plans the training pipeline of one rank, in which about ``window_rows`` rows are shuffled together, one by one;
    ConfigError where they are fewer than one batch, or the batch size does not go with the packing."""
    shares = [rank_share(split, line_per_sample, rank, rank_size) for rank in range(rank_size)]
    rank_rows = [records * line_per_sample + partial_rows for records, partial_rows in shares]
    steps = min(rank_rows) // batch_size
    refuse(steps < 1, "batch_size %d is larger than the %d training rows%s; make it smaller",
           batch_size, rank_rows[rank_id], " of a rank" if rank_size > 1 else "")
    unit = batch_size * line_per_sample // math.gcd(batch_size, line_per_sample)
    refuse(unit > _MAX_WINDOW_ROWS, "batch_size %d and line_per_sample %d have a least common multiple of %d rows, "
           "more than %d; choose a batch size that is a multiple of line_per_sample",
           batch_size, line_per_sample, unit, _MAX_WINDOW_ROWS)
    rows = unit * max(1, min(window_rows, split.rows) // unit)
    return TrainPlan(batch_size, rows // line_per_sample, rows // batch_size, steps, shares[rank_id])


def eval_steps(split: Split, line_per_sample: int, batch_size: int, rank_size: int = 1) -> int:
    """Returns the batches of one pass over a split, the last one padded; the same number on every rank."""
    records = -(-split.rows // line_per_sample)
    return -(-(-(-records // rank_size) * line_per_sample) // batch_size)
