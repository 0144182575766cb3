"""The command line. Nothing heavier than NumPy is imported before a command runs, so that ``--help`` is quick."""
import argparse
import dataclasses
import json
import logging
import os
import sys
from typing import Any, Dict, List, Sequence

from estimator_app import config as config_module
from estimator_app import device
from estimator_app.config import Config
from estimator_app.launch import launch, preflight
from estimator_app.training import alternation
from estimator_app.training import phases as eval_schedule
from estimator_app.training import tune as tuning
from feature_specs.errors import ConfigError, UserError

_MODEL_DIR = Config.__dataclass_fields__["model_dir"].default
_SAMPLE_DIR = Config.__dataclass_fields__["data_dir"].default
# What an interrupted command leaves, for its last line.
_KEPT = {"train": "the last checkpoint is kept, the same command goes on from it",
         "tune": "the study is kept, the same command goes on with it"}
_MODEL_COMMAND_FIELDS = ("data_dir", "eval_batch_size", "eval_weight_column", "threads", "prefetch")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="estimator_app", description="Multi-task recommender training with TensorFlow 1.15 Estimators through the "
                                          "Rec SDK, on NPUs and on any CPU.")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.required = True

    prepare = commands.add_parser("prepare", help="raw census text -> vocabulary, TFRecord shards, manifest",
                                  allow_abbrev=False)
    from preprocessing import census
    census.add_arguments(prepare)

    train = _add(commands, "train", "train, evaluate at every checkpoint, keep the best and the latest")
    config_module.add_arguments(train)
    train.add_argument("--fresh", action="store_true",
                       help="start over; what is deleted is listed first (default: go on from the last checkpoint)")
    train.add_argument("--partial_restore", action="store_true",
                       help="where the model directory holds another network, take over the variables and tables that "
                            "fit and initialise the others (default: such a directory is refused)")
    train.add_argument("--eval_mode", default=eval_schedule.AUTO, choices=eval_schedule.EVAL_MODES,
                       metavar="|".join(eval_schedule.EVAL_MODES),
                       help="how training and evaluation take turns; auto: train_and_evaluate on a CPU, alternate on "
                            "NPUs (default: auto)")
    train.add_argument("--phase", default="", help=argparse.SUPPRESS)
    launch.add_launch_arguments(train)

    evaluate = _add(commands, "eval", "evaluate a checkpoint; the last line is JSON")
    _add_model_arguments(evaluate)
    config_module.add_arguments(evaluate, _MODEL_COMMAND_FIELDS + ("device",))

    predict = _add(commands, "predict", "score raw census text with a trained model, row by row and in order")
    _add_model_arguments(predict)
    predict.add_argument("--input", metavar="FILE",
                         help="raw text, plain or gzip; labels may be absent [path] (default: the sample's test file, "
                              "where the model was trained on the sample)")
    predict.add_argument("--output", metavar="FILE",
                         help="file to write [path] (default: predictions.csv in the model directory)")
    predict.add_argument("--format", default="csv", choices=("csv", "jsonl"), metavar="csv|jsonl",
                         help="a header and a line per row, or an object per row (default: csv)")
    predict.add_argument("--max_bad_rows", metavar="N|P%", default="0",
                         help="unusable rows that are allowed; each leaves a line without values [rows, or percent] "
                              "(default: 0)")
    _add_whole_number(predict, "batch_size", 4096, "rows scored together", "rows")
    _add_whole_number(predict, "threads", 0, "threads for scoring; 0: one per core", "threads")

    export = _add(commands, "export", "write a SavedModel that needs nothing but TensorFlow, and check it")
    _add_model_arguments(export)
    export.add_argument("--export_dir", metavar="PATH",
                        help="base directory of the versions [path] (default: export in the model directory)")
    export.add_argument("--data_dir", metavar="PATH",
                        help="prepared data whose evaluation rows check the export [path] (default: the data that the "
                             "model was trained on)")
    _add_whole_number(export, "check_rows", 1024, "rows of the check", "rows")
    export.add_argument("--delta_since", type=int, metavar="STEP",
                        help="write only what changed since that checkpoint [step] (default: a whole model)")

    tune = _add(commands, "tune", "search hyper-parameters on validation rows of the training file; resumable")
    tuning.add_arguments(tune)

    bench = commands.add_parser("bench", help="measure against a baseline: %s" % ", ".join(benchmark_names()),
                                allow_abbrev=False, add_help=False)
    bench.add_argument("name", choices=benchmark_names(), metavar="|".join(benchmark_names()),
                       help="the benchmark; its own flags follow")

    preflight_parser = _add(commands, "preflight", "list what a run needs and what is missing")
    preflight.add_arguments(preflight_parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs a command.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The exit status: 0, 1 for an error that a message explains, 2 for a wrong command line.
    """
    arguments = list(arguments)
    debug = "--debug" in arguments
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.DEBUG if debug else logging.WARNING)
    # Nothing that a command writes may be writable by others; the SDK refuses to load such slices (rec_sdk_api 5.3).
    os.umask(os.umask(0o022) | 0o022)
    try:
        arguments = launch.expand_positional(arguments)
        # The flags after a benchmark's name are the benchmark's own.
        own = 2 if arguments[:1] == ["bench"] else len(arguments)
        parsed = build_parser().parse_args(list(arguments[:own]))
        parsed.rest = list(arguments[1:])
        return _COMMANDS[parsed.command](parsed)
    except UserError as error:
        if debug:
            raise
        sys.stderr.write("error: %s\n" % error)
        return 1
    except OSError as error:
        if debug or not error.filename or error.errno is None:
            return _unexpected(error, debug)
        sys.stderr.write("error: %s: %s\n" % (error.filename, os.strerror(error.errno)))
        return 1
    except Exception as error:
        status = getattr(error, "exit_status", None)
        if status is not None:
            sys.stderr.write("%s; a checkpoint is saved, the same command goes on from it\n" % error)
            return int(status)
        return _unexpected(error, debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; %s\n" % _KEPT.get(arguments[0], "what was there before is unchanged"))
        return 130


def _unexpected(error: Exception, debug: bool) -> int:
    if debug:
        raise error
    text = " ".join(str(error).split())
    sys.stderr.write("error: unexpected %s: %s; --debug shows where\n" % (type(error).__name__, text[:500]))
    return 1


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show stack traces and TensorFlow's log")
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model_dir", default=_MODEL_DIR, metavar="PATH",
                        help="model directory that train wrote [path] (default: %s)" % _MODEL_DIR)
    parser.add_argument("--checkpoint", default="latest", metavar="latest|best|STEP",
                        help="which checkpoint (default: latest)")


def _add_whole_number(parser: argparse.ArgumentParser, name: str, default: int, text: str, unit: str) -> None:
    parser.add_argument("--" + name, type=int, default=default, metavar="N",
                        help="%s [%s] (default: %d)" % (text, unit, default))


def _overrides(parsed: argparse.Namespace) -> Dict[str, Any]:
    names = {field.name for field in dataclasses.fields(Config)} - {"model_dir"}
    return {name: value for name, value in vars(parsed).items() if name in names}


def _quiet_tensorflow(debug: bool) -> None:
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import warnings
    with warnings.catch_warnings():
        # TensorFlow 1.15 warns about NumPy's future at every import.
        warnings.simplefilter("ignore", FutureWarning)
        import tensorflow as tf
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO if debug else tf.compat.v1.logging.ERROR)


def _train(parsed: argparse.Namespace) -> int:
    config = config_module.from_arguments(parsed, os.environ)
    resolved = device.resolve_device(config.device) if config.device == device.AUTO else config.device
    if resolved == device.NPU and not launch.inside_launch(os.environ):
        return alternation.launch_on_npus(config, parsed.rest, parsed.fresh, parsed.eval_mode)
    launch_only = [flag for flag in ("so_path", "rec_package_path", "hccl_cfg_json", "ip")
                   if resolved != device.NPU and getattr(parsed, flag)]
    if launch_only:
        raise ConfigError("--%s is for the launch on NPUs; add --device npu, or leave it out" % launch_only[0])
    if config.data_dir == _SAMPLE_DIR and not os.path.isdir(config.data_dir):
        _prepare_sample(config.data_dir)
    if parsed.eval_mode == eval_schedule.ALTERNATE and not parsed.phase and resolved != device.NPU:
        return alternation.alternate(config, parsed.rest, parsed.fresh)
    _quiet_tensorflow(parsed.debug)
    device.prepare_device(config.device)
    from estimator_app.training import train as training
    if parsed.phase:
        training.run_phase(config, parsed.phase)
        return 0
    try:
        training.train(config, parsed.fresh, partial=parsed.partial_restore)
    except training.TrainAgainError:
        _train_again(parsed.rest)
    return 0


def _train_again(flags: Sequence[str]) -> None:
    """Replaces this process by the same command, which goes on from the last checkpoint."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "estimator_app", "train"] + [
        flag for flag in flags if flag != "--fresh"])


def _prepare_sample(output_path: str) -> None:
    from preprocessing import census
    sys.stdout.write("no --data_dir given: making the sample data set in %s\n" % output_path)
    sys.stdout.flush()
    parser = argparse.ArgumentParser()
    census.add_arguments(parser)
    census.run(parser.parse_args(["--sample", "--output_path", output_path]))


def _evaluate(parsed: argparse.Namespace) -> int:
    from estimator_app.model_dir import directory as model_directory
    config, manifest = model_directory.read_settings(parsed.model_dir, _overrides(parsed))
    _quiet_tensorflow(parsed.debug)
    device.prepare_device(config.device)
    from estimator_app.training.evaluate import evaluate
    sys.stdout.write(json.dumps(evaluate(config, manifest, parsed.checkpoint)) + "\n")
    return 0


def _predict(parsed: argparse.Namespace) -> int:
    source = parsed.input or _sample_test_file(parsed.model_dir)
    target = parsed.output or os.path.join(parsed.model_dir, "predictions.csv" if parsed.format == "csv"
                                           else "predictions.jsonl")
    _quiet_tensorflow(parsed.debug)
    from estimator_app.serving.predict import predict_file
    done = predict_file(parsed.model_dir, parsed.checkpoint, source, target, parsed.format, parsed.batch_size,
                        parsed.max_bad_rows, parsed.threads)
    sys.stdout.write("%d rows of %s scored into %s (%d without values), %.1f s, %.0f rows/s\n" % (
        done["rows"], source, target, done["bad_rows"], done["seconds"], done["rows_per_second"]))
    return 0


def _sample_test_file(model_dir: str) -> str:
    from estimator_app.model_dir import directory as model_directory
    config, _ = model_directory.read_settings(model_dir, {})
    raw = os.path.join(config.data_dir, "raw")
    names = sorted(name for name in os.listdir(raw) if ".test" in name) if os.path.isdir(raw) else []
    if not names:
        raise ConfigError("predict needs --input FILE, the raw text to score")
    return os.path.join(raw, names[0])


def _export(parsed: argparse.Namespace) -> int:
    _quiet_tensorflow(parsed.debug)
    if parsed.delta_since is not None:
        from estimator_app.serving.export_delta import export_delta
        written = export_delta(parsed.model_dir, parsed.checkpoint, parsed.delta_since, parsed.export_dir)
        sys.stdout.write("changes written: %s\n" % written)
    else:
        from estimator_app.serving.export import export_model
        written = export_model(parsed.model_dir, parsed.checkpoint, parsed.export_dir, parsed.data_dir,
                               parsed.check_rows)
        sys.stdout.write("exported and checked: %s\n" % written)
    return 0


def _tune(parsed: argparse.Namespace) -> int:
    sample_dir = str(_SAMPLE_DIR)
    if not parsed.train_data_path and not os.path.isdir(sample_dir):
        _prepare_sample(sample_dir)
    return tuning.run(parsed, parsed.train_data_path or tuning.sample_text(sample_dir))


def benchmark_names() -> List[str]:
    """Returns the names of the benchmarks: the modules of the folder that have a ``main``."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "benchmarks")
    return sorted(name[:-len(".py")] for name in os.listdir(folder)
                  if name.endswith(".py") and not name.startswith("_"))


def _bench(parsed: argparse.Namespace) -> int:
    import importlib
    return int(importlib.import_module("benchmarks." + parsed.name).main(parsed.rest[1:]) or 0)


def _preflight(parsed: argparse.Namespace) -> int:
    return preflight.run(parsed)


def _prepare(parsed: argparse.Namespace) -> int:
    from preprocessing import census
    census.run(parsed)
    return 0


_COMMANDS = {"prepare": _prepare, "train": _train, "eval": _evaluate, "predict": _predict, "export": _export,
             "preflight": _preflight, "bench": _bench, "tune": _tune}


def command_names() -> List[str]:
    """Returns the names of all commands."""
    return sorted(_COMMANDS)
