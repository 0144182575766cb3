"""Kills trainings again and again, and compares what they leave with an uninterrupted run.

    python -m tests.support.kill_harness --seed 1 --count 200 [--early_stopping] [--alternate]

Each training is killed with SIGKILL, at a random time or at one of the named points, and started again with the same
command, until it ends; then everything is compared, and a new one begins.
"""
import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time

from tests.support import kill_points, runs

KEEP = ("--keep_checkpoint_max", "2")
# Where the evaluation rows contradict the training rows, the first evaluation is the best and training ends at 30.
EARLY_STOPPING = ("--early_stopping_patience", "2", "--train_epoch", "6")
# Calls that an ordinary run makes of a point before it ends, at least; others may be due at the first call only.
CALLS = {"step": 30, "progress noted": 8, "slice half written": 20, "slices written, no rename": 3,
          "slices in place, no dense files": 3, "dense files in place, no checksums": 3, "checkpoint done": 3,
          "evaluation begins": 3, "evaluation over, not recorded": 3, "evaluation recorded, best not kept": 3,
          "best half copied": 8, "old checkpoint half deleted": 8, "evaluation complete": 3}


def uninterrupted(root, flags):
    """Trains in ``root``/whole without an interruption; returns its seconds."""
    started = time.monotonic()
    runs.run(root, *(runs.TRAIN + KEEP + tuple(flags) + ("--model_dir", "whole")), seconds=600).ok()
    return time.monotonic() - started


class Harness:
    """Kills and compares; ``root`` holds the data and the uninterrupted run."""

    def __init__(self, root, flags, seed, seconds, log=lambda line: None):
        self.command = runs.TRAIN + KEEP + tuple(flags)
        self.root, self.random, self.seconds, self.log = str(root), random.Random(seed), seconds, log
        self.kills = self.compared = 0

    @property
    def model(self):
        """The model directory of the run that is killed."""
        return os.path.join(self.root, "model")

    def kill_at(self, point, nth=1):
        """Starts or resumes the run and lets it die at a point; returns whether it did: it may end before."""
        return self._count(runs.Started(self.root, self.command, point=(point, nth)).kill_or_end(), point)

    def kill_after(self, seconds):
        """Starts or resumes the run and kills it after a time; returns whether it died: it may end before."""
        started = runs.Started(self.root, self.command)
        started.process.join(seconds)
        return self._count(started.kill(), "%.2f s" % seconds)

    def kill_somewhere(self):
        """Kills at a time or a point drawn by chance; a run that ends is compared and removed."""
        if self.random.random() < 0.5:
            died = self.kill_after(self.random.uniform(0.0, self.seconds))
        else:
            point = self.random.choice(sorted(dict(kill_points.TRAIN_POINTS, **kill_points.RESTART_POINTS)))
            died = self.kill_at(point, self.random.randint(1, CALLS.get(point, 1)))
        if not died:
            self.compare()

    def finish(self):
        """Lets the run end, and compares."""
        runs.run(self.root, *self.command, seconds=600).ok()
        self.compare()

    def compare(self):
        """Compares everything with the uninterrupted run, and removes the run."""
        runs.assert_as_if_nothing_had_happened(self.model, os.path.join(self.root, "whole"))
        shutil.rmtree(self.model)
        self.compared += 1

    def _count(self, done, where):
        self.log("%s: exit status %d" % (where, done.status))
        # Killed or done; never refused and never failed.
        assert done.status in (0, -signal.SIGKILL), "%s\n%s\n%s" % (where, done.out, done.err)
        self.kills += done.status != 0
        return done.status != 0


def main():
    """Runs the harness with the flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of times and points (default: 1)")
    parser.add_argument("--count", type=int, default=200, help="kills (default: 200)")
    parser.add_argument("--early_stopping", action="store_true", help="train with early stopping")
    parser.add_argument("--alternate", action="store_true", help="train with --eval_mode alternate")
    parsed = parser.parse_args()
    flags = (EARLY_STOPPING if parsed.early_stopping else ()) + (
        ("--eval_mode", "alternate") if parsed.alternate else ())
    with tempfile.TemporaryDirectory() as root:
        runs.prepare_small(root, test=runs.contradicting_rows(60, 2) if parsed.early_stopping else None)
        seconds = uninterrupted(root, flags)
        harness = Harness(root, flags, parsed.seed, seconds, lambda line: print(line, flush=True))
        while harness.kills < parsed.count:
            harness.kill_somewhere()
        harness.finish()
        print("%d kills, %d runs compared, none differs (seed %d)" % (harness.kills, harness.compared, parsed.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
