"""Kills trainings again and again, and compares what they leave with an uninterrupted run.

    python -m tests.support.kill_harness --seed 1 --count 200 [--early_stopping] [--alternate] [--ranks 2]

Each training is killed with SIGKILL, at a random time or at one of the named points, and started again with the same
command, until it ends; then everything is compared, and a new one begins. Of several ranks
one drawn by chance is killed, at a random time.
"""
import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from feature_specs.files import PROJECT
from tests.support import kill_points, runs

KEEP = ("--keep_checkpoint_max", "2")
# Where the evaluation rows contradict the training rows, the first evaluation is the best and training ends at 30.
EARLY_STOPPING = ("--early_stopping_patience", "2", "--train_epoch", "6")
# Calls that an ordinary run makes of a point before it ends, at least; others may be due at the first call only.
CALLS = {"step": 30, "progress noted": 8, "slice half written": 20, "slices written, no rename": 3,
          "slices in place, no dense files": 3, "dense files in place, no checksums": 3, "checkpoint done": 3,
          "evaluation begins": 3, "evaluation over, not recorded": 3, "evaluation recorded, best not kept": 3,
          "best half copied": 8, "old checkpoint half deleted": 8, "evaluation complete": 3}


def several_ranks(ranks):
    """Flags of a training on several ranks that makes as many steps as one rank does."""
    return ("--ranks", str(ranks), "--train_epoch", str(3 * ranks)) if ranks > 1 else ()


class Launched:
    """A command that starts ranks, in a process of its own: a forked one would be a rank itself."""

    def __init__(self, root, arguments):
        self._texts = [tempfile.TemporaryFile("w+") for _ in range(2)]
        environment = dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2")
        self.process = subprocess.Popen([sys.executable, "-m", "estimator_app"] + list(arguments), cwd=root,
                                        env=environment, stdout=self._texts[0], stderr=self._texts[1])

    def wait(self, seconds):
        """Waits for its end, so long at most; returns whether it came."""
        try:
            return self.process.wait(seconds) is not None
        except subprocess.TimeoutExpired:
            return False

    def done(self):
        """Waits for the end and returns it."""
        if not self.wait(300):
            self.process.kill()
            raise AssertionError("the launch does not end")
        for text in self._texts:
            text.seek(0)
        return runs.Done(self.process.returncode, *(text.read() for text in self._texts))


def uninterrupted(root, flags, ranks=1):
    """Trains in ``root``/whole without an interruption; returns its seconds."""
    started = time.monotonic()
    command = runs.TRAIN + KEEP + tuple(flags) + ("--model_dir", "whole")
    (Launched(root, command).done() if ranks > 1 else runs.run(root, *command, seconds=600)).ok()
    return time.monotonic() - started


class Harness:
    """Kills and compares; ``root`` holds the data and the uninterrupted run."""

    def __init__(self, root, flags, seed, seconds, log=lambda line: None, ranks=1):
        self.command = runs.TRAIN + KEEP + tuple(flags)
        self.root, self.random, self.seconds, self.log = str(root), random.Random(seed), seconds, log
        self.kills = self.compared = 0
        self.ranks = ranks

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

    def kill_rank(self, seconds):
        """Starts or resumes the run and kills a rank after a time; returns whether the run died.

        Not the launcher: its ranks save and end, as at a stop, and keep a checkpoint between two evaluations.
        """
        started = Launched(self.root, self.command)
        if not started.wait(seconds):
            while not ranks_in(self.root) and not started.wait(0.01):
                pass  # the ranks are still being started
        alive = ranks_in(self.root)
        victim = self.random.choice(sorted(alive)) if alive else None
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(alive[victim], signal.SIGKILL)
        done = started.done()
        assert not ranks_in(self.root), "left: %s" % sorted(ranks_in(self.root))
        return self._count(done, "%s after %.2f s" % (victim, seconds))

    def kill_somewhere(self):
        """Kills at a time or a point drawn by chance; a run that ends is compared and removed."""
        if self.ranks > 1:
            died = self.kill_rank(self.random.uniform(0.0, self.seconds))
        elif self.random.random() < 0.5:
            died = self.kill_after(self.random.uniform(0.0, self.seconds))
        else:
            point = self.random.choice(sorted(dict(kill_points.TRAIN_POINTS, **kill_points.RESTART_POINTS)))
            died = self.kill_at(point, self.random.randint(1, CALLS.get(point, 1)))
        if not died:
            self.compare()

    def finish(self):
        """Lets the run end, and compares."""
        (Launched(self.root, self.command).done() if self.ranks > 1 else
         runs.run(self.root, *self.command, seconds=600)).ok()
        self.compare()

    def compare(self):
        """Compares everything with the uninterrupted run, and removes the run."""
        runs.assert_as_if_nothing_had_happened(self.model, os.path.join(self.root, "whole"))
        shutil.rmtree(self.model)
        self.compared += 1

    def _count(self, done, where):
        self.log("%s: exit status %d" % (where, done.status))
        # Killed or done; never refused and never failed.
        assert done.status in (0, -signal.SIGKILL, 128 + signal.SIGKILL), "%s\n%s\n%s" % (where, done.out, done.err)
        self.kills += done.status != 0
        return done.status != 0


def ranks_in(root):
    """{"rank R": process id} of the ranks that run in a directory."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.path.realpath("/proc/%s/cwd" % pid) != os.path.realpath(root) or "python" not in os.path.basename(
                    os.readlink("/proc/%s/exe" % pid)):
                continue
            with open("/proc/%s/environ" % pid, "rb") as stream:
                rank = re.search(rb"(?:^|\0)HOROVOD_RANK=(\d+)", stream.read())
            if rank:
                found["rank %s" % rank.group(1).decode()] = int(pid)
    return found


def main():
    """Runs the harness with the flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of times and points (default: 1)")
    parser.add_argument("--count", type=int, default=200, help="kills (default: 200)")
    parser.add_argument("--early_stopping", action="store_true", help="train with early stopping")
    parser.add_argument("--alternate", action="store_true", help="train with --eval_mode alternate")
    parser.add_argument("--ranks", type=int, default=1, help="ranks of the training (default: 1)")
    parsed = parser.parse_args()
    flags = several_ranks(parsed.ranks) + (EARLY_STOPPING if parsed.early_stopping else ()) + (
        ("--eval_mode", "alternate") if parsed.alternate else ())
    with tempfile.TemporaryDirectory() as root:
        runs.prepare_small(root, test=runs.contradicting_rows(60, 2) if parsed.early_stopping else None)
        seconds = uninterrupted(root, flags, parsed.ranks)
        harness = Harness(root, flags, parsed.seed, seconds, lambda line: print(line, flush=True), parsed.ranks)
        while harness.kills < parsed.count:
            harness.kill_somewhere()
        harness.finish()
        print("%d kills, %d runs compared, none differs (seed %d)" % (harness.kills, harness.compared, parsed.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
