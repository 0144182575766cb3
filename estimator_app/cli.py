"""The command line. Nothing heavier than NumPy is imported before a command runs, so that ``--help`` is quick."""
import argparse
import json
import logging
import os
import resource
import signal
import sys
from typing import FrozenSet, List, Optional, Sequence

from estimator_app import config as config_module
from estimator_app import device, streams
from estimator_app.config import NPU, Config
from estimator_app.launch import launch, preflight
from estimator_app.launch.hosts import this_host
from estimator_app.launch.processes import run_command
from estimator_app.model_dir import directory
from estimator_app.parsers import COMMANDS, PROG, SAMPLE_DIR, build_parser, preset_of
from feature_specs import storage
from feature_specs.checks import did_you_mean, refuse
from feature_specs.errors import ConfigError, UserError
from feature_specs.manifest import read_manifest
from feature_specs.outputs import STANDARD, is_standard

# What an interrupted command leaves, for its last line.
_KEPT = {"train": "checkpoints that were saved are kept, the same command resumes from the last one",
         "tune": "the study is kept, the same command continues it"}
# Bytes for libraries and thread stacks of TensorFlow; its allocator aborts the process where there is no more.
_LEAST = {"address space (ulimit -v)": (resource.RLIMIT_AS, 4 << 30),
          "a thread's stack (ulimit -s)": (resource.RLIMIT_STACK, 1 << 20)}


def main(arguments: Sequence[str]) -> int:
    """Runs a command line, and returns 0, 1 for an error that a message explains, or 2 for a wrong command line."""
    closed = streams.open_missing()
    streams.escape_unknown()
    arguments = list(arguments)
    debug = "--debug" in arguments
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.DEBUG if debug else logging.WARNING)
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Nothing that a command writes may be writable by others; the SDK refuses to load such slices (rec_sdk_api 5.3).
    os.umask(os.umask(0o022) | 0o022)
    try:
        streams.check_arguments(arguments)
        status = _run(arguments, closed)
        # Here, where a reader who has gone away is understood.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        kept = _KEPT.get(arguments[0], "what was there before is unchanged")
        sys.stderr.write("interrupted; %s\n" % _resuming(kept, arguments))
        return 130
    except Exception as error:
        stopped = getattr(error, "exit_status", None)
        if stopped is not None:
            sys.stderr.write("%s; %s\n" % (error, _resuming(
                "a checkpoint is saved, the same command resumes from it", arguments)))
            return int(stopped)
        if debug:
            raise
        sys.stderr.write("error: %s\n" % streams.one_line(_explained(error)))
        return 1


def _resuming(text: str, arguments: Sequence[str]) -> str:
    # With the flag it would start over once more.
    return text.replace("the same command", "the same command without --fresh") if "--fresh" in arguments else text


def _explained(error: Exception) -> str:
    # The SDK's own PermissionErrors, about files that it refuses, have a text and no number.
    if isinstance(error, UserError) or (isinstance(error, PermissionError) and error.errno is None):
        return str(error)
    if isinstance(error, MemoryError):
        return ("there is not enough memory; use smaller batches or tables (--batch_size, --embedding_dim), or a "
                "higher limit")
    failure = storage.failure(error)  # also TensorFlow's, which writes records and models with errors of its own
    if failure is None and isinstance(error, OSError) and error.errno is not None:
        failure = "", storage.reason(error)
    if failure is None:
        return "%s in the program: %s; --debug shows where" % (type(error).__name__, " ".join(str(error).split())[:500])
    name, reason = failure
    text = "%s: %s" % (name, reason) if name else reason
    if reason not in map(os.strerror, storage.FULL):
        return text
    # Where the file is not known, it may be a temporary one as well as the result.
    return "%s; free space %s, or name another place with --output, --output_path, --export_dir or TMPDIR" % (
        text, "there" if name else "where the results and temporary files go")


def _run(arguments: List[str], closed: FrozenSet[str]) -> int:
    arguments = launch.expand_positional(arguments)
    command = arguments[0] if arguments else ""
    if command in ("", "help") or not {"-h", "--help"}.isdisjoint(arguments):
        streams.require_output(closed, "the help")
    if command in ("eval", "preflight"):
        streams.require_output(closed, "the result of %s" % command)
    if command in ("", "help", "-h", "--help"):
        sys.stdout.write("usage: %s <command> [flags...]\n\n%s\n" % (
            PROG, "\n".join("  %-10s %s" % item for item in COMMANDS.items())))
        return 0 if command else 2
    if command not in COMMANDS:
        sys.stderr.write("error: unknown command %r%s; '%s help' lists the commands\n" % (
            command, did_you_mean(command, COMMANDS), PROG))
        return 2
    rest = arguments[1:]
    # The flags after a benchmark's name are the benchmark's own.
    parsed = build_parser(command, rest).parse_args(rest[:1] if command == "bench" else rest)
    parsed.rest, parsed.closed = rest, closed
    return _COMMANDS[command](parsed)


def _quiet_tensorflow(debug: bool) -> None:
    for what, (kind, least) in _LEAST.items():
        limit = resource.getrlimit(kind)[0]
        refuse(limit != resource.RLIM_INFINITY and limit < least, "the limit of %s is %d kB; TensorFlow ends without a "
               "word below %d kB: raise it", what, limit >> 10, least >> 10)
    import warnings
    with warnings.catch_warnings():
        # TensorFlow 1.15 warns about NumPy's future at every import.
        warnings.simplefilter("ignore", FutureWarning)
        import tensorflow as tf
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO if debug else tf.compat.v1.logging.ERROR)


def _train(parsed: argparse.Namespace) -> int:
    from estimator_app.model.definition import make_model
    from estimator_app.training import alternation, steps
    from estimator_app.training.run_start import TrainRequest, load_data
    # Until a training handles it, a request to save a checkpoint must not end the process.
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    inside, ranks_wanted = launch.inside_launch(os.environ), launch.wants_ranks(parsed)
    flags = dict(vars(parsed), data_dir=parsed.chosen_data_dir)
    config = config_module.from_arguments(flags, parsed.chosen_preset, os.environ)
    resolved = _device(parsed, config)
    config = config.replace(model_dir=directory.check_path(config.model_dir, resolved))
    if config.data_dir == SAMPLE_DIR and not os.path.isdir(SAMPLE_DIR):
        refuse(parsed.dry_run, "--dry_run starts nothing, and the sample data set in %s is not there; give --data_dir, "
               "or make it with: bash run_estimator.sh prepare --sample --output_path %s", SAMPLE_DIR, SAMPLE_DIR)
        status = _prepare_sample()
        if status:
            return status
    elif config.data_dir == SAMPLE_DIR and not getattr(parsed, "data_dir", "") and not parsed.phase:
        sys.stdout.write("no --data_dir given: the sample data set in %s\n" % SAMPLE_DIR)
    model = make_model(config, load_data(config))
    model.check_tables()
    request = TrainRequest(model, parsed.fresh, parsed.verify_data, parsed.continue_on, parsed.warm_start_from,
                           parsed.chosen_preset_name, parsed.phase)
    steps.step_numbers(config, model.manifest, 0, 0, parsed.ranks or 1)  # refuses a batch larger than the data
    if not inside and (resolved == NPU or ranks_wanted):
        return alternation.launch_ranks(request, parsed.rest, parsed.eval_mode, resolved)
    if inside and resolved == NPU and not launch.launched_here(os.environ):
        # A rank of the user's own launcher does all in one process.
        numbers = steps.step_numbers(config, model.manifest, 0, 0, 1)
        steps.resolve_eval_mode(steps.TRAIN_AND_EVALUATE, NPU, len(steps.stops(0, numbers)))
    launch.check_flags(parsed, resolved)
    if not parsed.phase:
        model.needs().check(_available_memory())
    if parsed.eval_mode == steps.ALTERNATE and not parsed.phase:
        return alternation.alternate(request, parsed.rest)
    _quiet_tensorflow(parsed.debug)
    device.prepare_device(resolved)
    from estimator_app.training.train import train
    train(request)
    return 0


def _available_memory() -> Optional[int]:
    """Returns the bytes that this process may still use, where the system says so."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    known = [this_host().available_memory(), None if limit == resource.RLIM_INFINITY else limit]
    return min((size for size in known if size is not None), default=None)


def _prepare_sample() -> int:
    # In a process of its own: TensorFlow keeps the threads of a process's first session for all.
    sys.stdout.write("no --data_dir given: making the sample data set in %s\n" % SAMPLE_DIR)
    sys.stdout.flush()
    return run_command([sys.executable, "-m", "estimator_app", "prepare", "--sample", "--output_path", SAMPLE_DIR],
                       dict(os.environ))


def _evaluate(parsed: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(parsed).items()
             if name in Config.__dataclass_fields__ and name != "model_dir"}
    config, manifest = directory.read_settings(parsed.model_dir, given)
    resolved = _device(parsed, config)
    if not launch.inside_launch(os.environ) and (resolved == NPU or launch.wants_ranks(parsed)):
        return launch.launch(parsed.rest, config.model_dir, device=resolved, command="eval", data_dir=config.data_dir,
                             expansion=config.use_dynamic_expansion)
    _quiet_tensorflow(parsed.debug)
    device.prepare_device(resolved)
    from estimator_app.training.evaluate import evaluate
    sys.stdout.write(json.dumps(evaluate(config, manifest, parsed.checkpoint)) + "\n")
    return 0


def _device(parsed: argparse.Namespace, config: Config) -> str:
    # A dry run of a launch on NPUs works on any machine.
    return NPU if parsed.dry_run and config.device == NPU else device.resolve_device(config.device)


def _predict(parsed: argparse.Namespace) -> int:
    sources = parsed.input or [_sample_test_file(parsed.model_dir)]
    target = parsed.output or os.path.join(parsed.model_dir, "predictions.%s" % parsed.format)
    if is_standard(target):
        streams.require_output(parsed.closed, "the predictions")
    refuse(STANDARD in sources and "stdin" in parsed.closed,
           "--input - reads standard input, which is closed; redirect it from a file, or give the file")
    _quiet_tensorflow(parsed.debug)
    from estimator_app.serving.predict import Prediction, predict
    done = predict(Prediction(parsed.model_dir, parsed.checkpoint, tuple(sources), target, parsed.format,
                              parsed.batch_size, parsed.max_bad_rows, parsed.threads))
    out = sys.stderr if is_standard(target) else sys.stdout
    out.write("%d rows of %s scored into %s (%d unusable), %.1f s, %.0f rows/s\n" % (
        done.rows, ", ".join(sources), target, done.bad_rows, done.seconds, done.rows / max(done.seconds, 1e-9)))
    return 0


def _sample_test_file(model_dir: str) -> str:
    config, _ = directory.read_settings(model_dir, {})
    raw = os.path.join(config.data_dir, "raw")
    names = sorted(name for name in os.listdir(raw) if "test" in name) if os.path.isdir(raw) else []
    refuse(not names, "predict needs --input FILE, the raw file to score")
    return os.path.join(raw, names[0])


def _export(parsed: argparse.Namespace) -> int:
    _quiet_tensorflow(parsed.debug)
    from estimator_app.serving.export import ExportRequest, export_model
    written = export_model(ExportRequest(parsed.model_dir, parsed.checkpoint, parsed.export_dir, parsed.data_dir,
                                         parsed.check_rows))
    sys.stdout.write("exported and checked: %s\n" % written)
    return 0


def _tune(parsed: argparse.Namespace) -> int:
    from estimator_app.tuning import tune
    return tune.run(parsed)


def _bench(parsed: argparse.Namespace) -> int:
    import importlib
    return int(importlib.import_module("benchmarks." + parsed.name).main(parsed.rest[1:]) or 0)


def _preflight(parsed: argparse.Namespace) -> int:
    return preflight.run(parsed, table_bytes=_table_bytes(parsed.data_dir) if parsed.data_dir else 0)


def _table_bytes(data_dir: str) -> int:
    from estimator_app.model.definition import make_model
    config = config_module.from_arguments({"data_dir": data_dir}, preset_of(data_dir)[1], os.environ)
    return make_model(config, read_manifest(data_dir)).needs().memory_bytes


def _prepare(parsed: argparse.Namespace) -> int:
    from preprocessing import prepare
    dataset = prepare.dataset_of(parsed)
    if dataset.definition.preset:
        try:
            config_module.read_preset(dataset.definition.preset)
        except ConfigError as error:
            raise ConfigError("dataset file %s: %s" % (dataset.path, error)) from error
    # The sample that train makes for itself is followed by a training.
    prepare.run(parsed, dataset, tells_next=not parsed.sample or parsed.output_path != SAMPLE_DIR)
    return 0


def _describe(parsed: argparse.Namespace) -> int:
    if not parsed.output:
        streams.require_output(parsed.closed, "the table of columns")
    from preprocessing.drafting import describe
    describe.run(parsed)
    return 0


_COMMANDS = {"prepare": _prepare, "describe": _describe, "train": _train, "eval": _evaluate, "predict": _predict,
             "export": _export, "preflight": _preflight, "bench": _bench, "tune": _tune}
