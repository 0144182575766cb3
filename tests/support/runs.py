"""Small trainings through the command line: in this process, or in ones of their own that start quickly."""
import contextlib
import io
import json
import multiprocessing
import os
import signal
import sys
import time

import numpy as np

from estimator_app.model_dir import checkpoints, history, sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from preprocessing import prepare
from tests.support.rows import write

SMALL_YAML = """
name: small
files: {format: csv, header: true}
features:
  user: {type: categorical, encoding: hash}
  item: {type: categorical}
  x: {type: numeric}
tasks:
  click: {type: binary, column: click}
"""
# Dropout stays in: a resumed run must drop what an uninterrupted one drops. The learning rates make "best" move.
FLAGS = ("--data_dir", "data", "--model_dir", "model", "--threads", "1", "--batch_size", "16", "--train_epoch", "3",
         "--eval_interval", "10", "--log_interval", "4", "--model",
         "shared_bottom", "--expert_num", "1", "--expert_layers", "8", "--tower_layers",
         "3", "--embedding_dim", "3", "--expert_dropout", "0.1", "--learning_rate", "0.01", "--sparse_learning_rate",
         "0.02", "--dense_bins", "0", "--device", "cpu")
TRAIN = ("train",) + FLAGS
# 160 rows in batches of 16, three times; evaluations at 10, 20 and 30.
STEPS = 30
# What differs between two runs of the same training.
TIMES = ("time", "seconds", "examples_per_second")
PRELOADED = ["tests.support.preload"]


def small_rows(count, seed=0, users=30, items=12):
    """Learnable rows as lists of texts: user, item, x, click."""
    random = np.random.RandomState(seed)
    rows = []
    for _ in range(count):
        user, item, x = random.randint(users), random.randint(items), random.normal()
        click = int(item % 3 + x + random.normal() > 1)
        rows.append(["u%d" % user, "i%d" % item, "%.4f" % x, str(click)])
    return rows


def contradicting_rows(count, seed=0):
    """The same with the opposite label: the better a model fits, the worse it looks."""
    return [row[:3] + [str(1 - int(row[3]))] for row in small_rows(count, seed)]


def write_rows(path, rows):
    """Writes rows as the small dataset's text file; returns its path."""
    return write(path, "\n".join(",".join(row) for row in [["user", "item", "x", "click"]] + rows) + "\n")


def prepare_small(root, train=None, test=None, output="data", flags=(), yaml=SMALL_YAML):
    """Prepares the small dataset, 160 and 60 rows by default, in ``root``/``output``; returns the manifest."""
    dataset = write(os.path.join(str(root), "small.yaml"), yaml)
    sources = [write_rows(os.path.join(str(root), "%s.%s.csv" % (output, name)), rows) for name, rows in (
        ("train", train or small_rows(160, 1)), ("test", test or small_rows(60, 2)))]
    return run_prepare("--dataset", dataset, "--train_data_path", sources[0], "--test_data_path", sources[1],
                       "--output_path", os.path.join(str(root), output), "--num_shards", "2", "--num_workers", "1",
                       *flags)


def run_prepare(*flags):
    """Runs the preparation in this process, quietly."""
    parser = prepare.argparse.ArgumentParser()
    prepare.add_arguments(parser)
    with contextlib.redirect_stdout(io.StringIO()):
        return prepare.run(parser.parse_args([str(flag) for flag in flags]))


class Done:
    """A finished command: exit status and what it printed."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def ok(self):
        """Returns itself where the command succeeded."""
        assert self.status == 0, "exit status %s\n%s\n%s" % (self.status, self.out, self.err)
        return self

    def refused(self, *parts, status=1):
        """Asserts that the command ended with one line that holds the parts; returns it."""
        lines = [line for line in self.err.splitlines() if not line.startswith(("step ", "warning: "))]
        assert self.status == status and len(lines) == 1 and lines[0].startswith("error: "), (
            "exit status %s\n%s\n%s" % (self.status, self.out, self.err))
        assert " in the program" not in lines[0], lines[0]
        for part in parts:
            assert part in lines[0], lines[0]
        return lines[0]


def run_here(root, *arguments):
    """Runs a command that needs no TensorFlow in this process, in the directory ``root``."""
    from estimator_app import cli
    out, err, before, mask = io.StringIO(), io.StringIO(), os.getcwd(), os.umask(0o022)
    os.chdir(str(root))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main([str(item) for item in arguments])
            except SystemExit as error:
                status = error.code
    finally:
        os.chdir(before)
        os.umask(mask)
    return Done(status, out.getvalue(), err.getvalue())


class Started:
    """A command in a process of its own, forked from one that has loaded TensorFlow and has done nothing else."""

    def __init__(self, root, arguments, environment=None, point=None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._paths = [os.path.join(str(root), "%s-%d" % (name, time.monotonic_ns())) for name in ("out", "err")]
        self.process = context.Process(target=_child, args=(
            str(root), self._paths, [str(item) for item in arguments], environment or {}, point))
        self.process.start()

    @property
    def pid(self):
        """Its process id."""
        return self.process.pid

    def is_alive(self):
        """Whether it runs."""
        return self.process.is_alive()

    def send(self, number):
        """Sends a signal."""
        os.kill(self.pid, number)

    def wait_for(self, condition, seconds=120):
        """Waits until a condition holds; fails where the command ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.is_alive() and time.monotonic() < end, self.done().out + self.done().err
            time.sleep(0.01)

    def done(self, seconds=120):
        """Waits for the end and returns it; a command that takes longer is killed."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        texts = []
        for path in self._paths:
            text = ""
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    text = stream.read()
            texts.append(text)
        return Done(self.process.exitcode, *texts)

    def kill_or_end(self):
        """Waits until it ends or a point kills it; returns how it ended."""
        self.process.join(300)
        return self.kill()

    def kill(self):
        """Ends it with SIGKILL and returns how it ended."""
        if self.is_alive():
            self.process.kill()
        done = self.done()
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        return done


def run(root, *arguments, environment=None, seconds=120):
    """Runs a command in a process of its own to its end."""
    started = Started(root, arguments, environment)
    done = started.done(seconds)
    started.kill()
    return done


def _child(root, paths, arguments, environment, point):
    for path, descriptor in zip(paths, (1, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.chdir(root)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # The end below skips what releases the progress bar's lock, of which its keeper would warn in the command's name.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.semaphore_tracker"
    # Python ignores broken pipes in every program, and a test runner may ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from estimator_app import __version__, cli
    from estimator_app.model_dir import directory
    # A commit that is made beside the tests would begin a new stage.
    directory._code_version = lambda: __version__
    if point is not None:
        from tests.support.kill_points import arm
        arm(*point)
    try:
        status = cli.main(arguments)
    except SystemExit as error:
        status = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def weights(model_dir, step):
    """All dense variables and, in the order of the keys, all rows and states of a checkpoint."""
    import tensorflow as tf
    checkpoint = Checkpoint(str(model_dir), step)
    reader = tf.train.load_checkpoint(checkpoint.path)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    for table in sparse_tables.tables(checkpoint.tables):
        keys = sparse_tables.read_keys(checkpoint.tables, table)
        order = np.argsort(keys)
        values[table + "/keys"] = keys[order]
        for state in sparse_tables.states(checkpoint.tables, table):
            values[table + "/" + state] = np.array(sparse_tables.open_rows(checkpoint.tables, table, state))[order]
    return values


def assert_same_weights(left, right, step):
    """Bit for bit: variables, tables and the optimizer's states of one step in two model directories."""
    ours, theirs = weights(left, step), weights(right, step)
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def recorded(model_dir, *kinds):
    """Entries of ``metrics.jsonl`` without what depends on the clock."""
    return [{name: value for name, value in entry.items() if name not in TIMES}
            for entry in history.read(str(model_dir)) if not kinds or entry["kind"] in kinds]


def evaluated_steps(model_dir):
    """Steps of the recorded evaluations, as they stand in the file."""
    return [entry["global_step"] for entry in history.read(str(model_dir)) if entry["kind"] == "eval"]


def event_steps(folder):
    """Sorted (step, tag, value) of all summaries in a folder's event files, each once; speeds have no value."""
    found = set()
    for name in sorted(os.listdir(str(folder))):
        if ".tfevents." in name:
            for event in _events(os.path.join(str(folder), name)):
                for value in event.summary.value:
                    clock = any(value.tag.endswith(time_name) for time_name in TIMES)
                    found.add((event.step, value.tag, None if clock else value.simple_value))
    return sorted(found, key=str)


def _events(path):
    """The events of a file; a killed process may leave half a record at its end, where every reader stops."""
    import tensorflow as tf
    with contextlib.suppress(tf.errors.DataLossError):
        yield from tf.compat.v1.train.summary_iterator(path)


def assert_as_if_nothing_had_happened(model, whole):
    """Compares everything that a run leaves with an uninterrupted one."""
    model, whole = str(model), str(whole)
    steps = checkpoints.steps(whole)
    assert checkpoints.steps(model) == steps
    for step in steps:
        assert Checkpoint(model, step).problem(contents=True) is None
        assert_same_weights(model, whole, step)
    assert recorded(model) == recorded(whole)
    assert checkpoints.read_best(model, contents=True) == checkpoints.read_best(whole, contents=True)
    best = checkpoints.read_best(whole)
    if best is not None:
        assert_same_weights(os.path.join(model, "best"), os.path.join(whole, "best"), best.step)
    assert event_steps(model) == event_steps(whole)
    assert event_steps(os.path.join(model, "eval")) == event_steps(os.path.join(whole, "eval"))
    assert stages(model) == stages(whole)
    ours, theirs = ({name for name in os.listdir(folder) if ".tfevents." not in name} for folder in (model, whole))
    assert ours == theirs, sorted(ours ^ theirs)


def stages(model_dir):
    """Stages of a model directory without places."""
    with open(os.path.join(str(model_dir), "args.json"), encoding="utf-8") as stream:
        found = json.load(stream)["stages"]
    for stage in found:
        del stage["data"]["directory"], stage["config"]["model_dir"]
    return found
