"""The command line. Nothing heavier than NumPy is imported before a command runs, so that ``--help`` is quick."""
import argparse
import dataclasses
import difflib
import json
import logging
import os
import signal
import sys
from typing import Any, Dict, List, NoReturn, Optional, Sequence

from estimator_app import config as config_module
from estimator_app import device
from estimator_app.config import NPU, Config
from estimator_app.model_dir import directory
from feature_specs.errors import ConfigError, UserError
from feature_specs.manifest import FILE_NAME, read_manifest

PROG = "run_estimator.sh"
_MODEL_DIR = Config.__dataclass_fields__["model_dir"].default
_SAMPLE_DIR = Config.__dataclass_fields__["data_dir"].default
# What an interrupted command leaves, for its last line.
_KEPT = {"train": "the last checkpoint is kept, the same command resumes from it",
         "tune": "the study is kept, the same command continues it"}
# Libraries and thread stacks of TensorFlow; its allocator aborts the process where there is no more.
_ADDRESS_SPACE = 4 << 30
_MODEL_COMMAND_FIELDS = ("data_dir", "device", "eval_batch_size", "eval_weight_column", "threads", "prefetch")
COMMANDS = {
    "describe": "look at data files and draft a dataset file",
    "prepare": "raw files -> vocabulary, TFRecord shards, manifest",
    "train": "train, evaluate at every checkpoint, keep the best and the latest",
    "eval": "evaluate a checkpoint; the last line is JSON",
    "predict": "score raw files with a trained model, row by row and in order",
    "export": "write a SavedModel that needs nothing but TensorFlow, and check it",
    "tune": "search settings on validation rows of the training files; resumable",
    "bench": "measure against a baseline",
    "preflight": "list what a run needs and what is missing",
}


class Parser(argparse.ArgumentParser):
    """Flags in full, and a suggestion for a mistyped one."""

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        """Ends the program after the help has reached its reader."""
        sys.stdout.flush()
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        """Ends with one line."""
        unknown, _, rest = message.partition(": ")
        if unknown == "unrecognized arguments":
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(rest.split()[0].partition("=")[0], known, 1)
            message = "unknown flag %s%s" % (rest.split()[0], "; did you mean %s?" % near[0] if near else "")
        self.exit(2, "error: %s; %s --help lists all flags\n" % (message, self.prog))


def build_parser(command: str, arguments: Sequence[str]) -> Parser:
    """Returns the parser of a command.

    Args:
        command: one of :data:`COMMANDS`.
        arguments: what follows it: the help shows the values that this very command line would use.
    """
    parser = Parser(prog="%s %s" % (PROG, command), description=COMMANDS[command], allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show stack traces and TensorFlow's log")
    _ADDERS[command](parser, arguments)
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
        status = _run(arguments)
        # Here, where a reader who has gone away is understood.
        sys.stdout.flush()
        return status
    except UserError as error:
        if debug:
            raise
        sys.stderr.write("error: %s\n" % error)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        if debug:
            raise
        sys.stderr.write("error: there is not enough memory; use smaller batches or tables (--batch_size, "
                         "--embedding_dim), "
                         "or a higher limit\n")
        return 1
    except PermissionError as error:
        if debug:
            raise
        # The SDK's own, about files that it refuses, have a text and no number.
        text = str(error) if error.errno is None else "%s: %s" % (error.filename, error.strerror)
        sys.stderr.write("error: %s\n" % text)
        return 1
    except OSError as error:
        if debug or error.errno is None:
            return _unexpected(error, debug)
        sys.stderr.write("error: %s%s\n" % ("%s: "
                                            "" % error.filename if error.filename else "", os.strerror(error.errno)))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; %s\n" % _KEPT.get(arguments[0], "what was there before is unchanged"))
        return 130
    except Exception as error:
        stopped = getattr(error, "exit_status", None)
        if stopped is None:
            return _unexpected(error, debug)
        sys.stderr.write("%s; a checkpoint is saved, the same command resumes from it\n" % error)
        return int(stopped)


def _run(arguments: List[str]) -> int:
    from estimator_app.launch import launch
    arguments = launch.expand_positional(arguments)
    command = arguments[0] if arguments else ""
    if command in ("", "help", "-h", "--help"):
        sys.stdout.write("usage: %s <command> [flags...]\n\n%s\n" % (
            PROG, "\n".join("  %-10s %s" % item for item in COMMANDS.items())))
        return 0 if command else 2
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        sys.stderr.write("error: unknown command %r%s; '%s help' lists the commands\n" % (
            command, ", did you mean %s?" % near[0] if near else "", PROG))
        return 2
    rest = arguments[1:]
    # The flags after a benchmark's name are the benchmark's own.
    own = rest[:1] if command == "bench" else rest
    parsed = build_parser(command, rest).parse_args(own)
    parsed.rest = rest
    return _COMMANDS[command](parsed)


def _unexpected(error: Exception, debug: bool) -> int:
    if debug:
        raise error
    text = " ".join(str(error).split())
    sys.stderr.write("error: %s in the program: %s; --debug shows where\n" % (type(error).__name__, text[:500]))
    return 1


def _flag(arguments: Sequence[str], name: str) -> str:
    """Returns the last value of a flag on a command line that is not parsed yet, or nothing."""
    value = ""
    for place, word in enumerate(arguments):
        if word == name and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif word.startswith(name + "="):
            value = word[len(name) + 1:]
    return value


def _data_of(arguments: Sequence[str]) -> str:
    """Returns the data directory of a training: as given, else what its model directory was trained on, or the
    sample."""
    given, model_dir = _flag(arguments, "--data_dir"), _flag(arguments, "--model_dir")
    if given or not model_dir:
        return given or str(_SAMPLE_DIR)
    stages = directory.read_stages(model_dir)
    return str(stages[-1].data["directory"]) if stages else str(_SAMPLE_DIR)


def _preset_of(arguments: Sequence[str], data_dir: str) -> str:
    """Returns the preset of a training: as given, else the dataset's own, or the default."""
    given = _flag(arguments, "--preset")
    if given:
        return given
    if os.path.isfile(os.path.join(data_dir, FILE_NAME)):
        return read_manifest(data_dir).dataset.preset or config_module.DEFAULT_PRESET
    return "census" if data_dir == _SAMPLE_DIR else config_module.DEFAULT_PRESET


def _add_train(parser: Parser, arguments: Sequence[str]) -> None:
    from estimator_app.launch import launch
    from estimator_app.model.networks import NETWORKS
    from estimator_app.training.steps import AUTO, EVAL_MODES
    data_dir = _data_of(arguments)
    preset = _preset_of(arguments, data_dir)
    shown = config_module.from_arguments({"data_dir": data_dir}, preset, os.environ)
    config_module.add_preset_argument(parser, preset)
    config_module.add_arguments(parser, shown, choices={"model": sorted(NETWORKS)})
    parser.add_argument("--fresh", action="store_true",
                        help="start over; the old run moves into a folder inside the model directory, exports and "
                             "predictions stay (default: resume from the last checkpoint)")
    parser.add_argument("--continue_on", action="store_true",
                        help="train on with other data, prepared with --vocabulary_from the model (default: other "
                             "data is "
                             "refused)")
    parser.add_argument("--warm_start_from", default="", metavar="PATH",
                        help="model directory whose variables and tables a new model takes over where they fit [path] "
                             "(default: none)")
    parser.add_argument("--verify_data", action="store_true",
                        help="compare all data files with their hashes again (default: once per data directory)")
    parser.add_argument("--eval_mode", default=AUTO, choices=EVAL_MODES, metavar="|".join(EVAL_MODES),
                        help="how training and evaluation take turns; auto: train_and_evaluate on a CPU, alternate on "
                             "NPUs (default: auto)")
    parser.add_argument("--phase", default="", help=argparse.SUPPRESS)
    launch.add_launch_arguments(parser)


def _add_model_arguments(parser: Parser) -> None:
    parser.add_argument("--model_dir", default=_MODEL_DIR, metavar="PATH",
                        help="model directory that train wrote [path] (default: %s)" % _MODEL_DIR)
    parser.add_argument("--checkpoint", default="latest", metavar="latest|best|STEP",
                        help="which checkpoint (default: latest)")


def _add_eval(parser: Parser, arguments: Sequence[str]) -> None:
    model_dir = _flag(arguments, "--model_dir") or str(_MODEL_DIR)
    stages = directory.read_stages(model_dir)
    shown = stages[-1].to_config(model_dir, {}, model_dir) if stages else Config()
    _add_model_arguments(parser)
    config_module.add_arguments(parser, shown, _MODEL_COMMAND_FIELDS)
    from estimator_app.launch import launch
    launch.add_launch_arguments(parser)


def _add_predict(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    _add_model_arguments(parser)
    parser.add_argument("--input", nargs="+", metavar="FILE",
                        help="raw files in the dataset's format, folders or patterns; - is standard input; labels "
                             "may be "
                             "absent [path] (default: the sample's test file, where the model was trained on the "
                             "sample)")
    parser.add_argument("--output", metavar="FILE",
                        help="file to write; - is standard output; .gz is compressed [path] (default: "
                             "predictions.csv in "
                             "the model directory)")
    parser.add_argument("--format", default="csv", choices=("csv", "jsonl"), metavar="csv|jsonl",
                        help="a header and a line per row, or an object per row (default: csv)")
    parser.add_argument("--max_bad_rows", metavar="N|P%", default="0",
                        help="unusable rows that are allowed; each leaves a line without values [rows, or percent] "
                             "(default: 0)".replace("%)", "%%)"))
    _add_whole_number(parser, "batch_size", 4096, "rows scored together", "rows")
    _add_whole_number(parser, "threads", 0, "threads for scoring; 0: one per core", "threads")


def _add_export(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    _add_model_arguments(parser)
    parser.add_argument("--export_dir", metavar="PATH",
                        help="base directory of the versions [path] (default: export in the model directory)")
    parser.add_argument("--data_dir", metavar="PATH",
                        help="prepared data whose evaluation rows check the export [path] (default: the data that the "
                             "model was trained on)")
    _add_whole_number(parser, "check_rows", 1024, "rows of the check", "rows")


def _add_tune(parser: Parser, arguments: Sequence[str]) -> None:
    from estimator_app.tuning import tune
    tune.add_arguments(parser, arguments)


def _add_bench(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    parser.add_argument("name", choices=benchmark_names(), metavar="|".join(benchmark_names()),
                        help="the benchmark; its own flags follow")


def _add_preflight(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    from estimator_app.launch import preflight
    preflight.add_arguments(parser)


def _add_prepare(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    from preprocessing import prepare
    prepare.add_arguments(parser)


def _add_describe(parser: Parser, arguments: Sequence[str]) -> None:
    del arguments
    from preprocessing import describe
    describe.add_arguments(parser)


def _add_whole_number(parser: argparse.ArgumentParser, name: str, default: int, text: str, unit: str) -> None:
    parser.add_argument("--" + name, type=int, default=default, metavar="N",
                        help="%s [%s] (default: %d)" % (text, unit, default))


def _quiet_tensorflow(debug: bool) -> None:
    import resource
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit not in (resource.RLIM_INFINITY, -1) and limit < _ADDRESS_SPACE:
        raise ConfigError("the limit of address space (ulimit -v) is %.1f GB; TensorFlow ends without a word below "
                          "%.0f GB: raise it" % (limit / 1e9, _ADDRESS_SPACE / 1e9))
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import warnings
    with warnings.catch_warnings():
        # TensorFlow 1.15 warns about NumPy's future at every import.
        warnings.simplefilter("ignore", FutureWarning)
        import tensorflow as tf
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO if debug else tf.compat.v1.logging.ERROR)


def _train(parsed: argparse.Namespace) -> int:
    from estimator_app.launch import launch
    from estimator_app.model.definition import make_model
    from estimator_app.training import alternation, steps
    from estimator_app.training.run_start import TrainRequest, load_data
    # Until a training handles it, a request to save a checkpoint must not end the process.
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    data_dir = _data_of(parsed.rest)
    flags = dict(vars(parsed), data_dir=data_dir)
    config = config_module.from_arguments(flags, _preset_of(parsed.rest, data_dir), os.environ)
    resolved = _device(parsed, config)
    config = config.replace(model_dir=directory.check_path(config.model_dir, resolved))
    if data_dir == _SAMPLE_DIR and not os.path.isdir(data_dir):
        _prepare_sample(data_dir)
    request = TrainRequest(config, parsed.fresh, parsed.verify_data, parsed.continue_on, parsed.warm_start_from,
                           parsed.phase)
    model = make_model(config, load_data(config))
    steps.step_numbers(config, model.manifest, 0, 0, parsed.ranks or 1)  # refuses a batch larger than the data
    inside = launch.inside_launch(os.environ)
    if not inside and (resolved == NPU or launch.wants_ranks(parsed)):
        return alternation.launch_ranks(request, model, parsed.rest, parsed.eval_mode, resolved)
    if inside and resolved == NPU and not launch.launched_here(os.environ):
        # A rank of the user's own launcher does all in one process.
        numbers = steps.step_numbers(config, model.manifest, 0, 0, 1)
        steps.resolve_eval_mode(steps.TRAIN_AND_EVALUATE, NPU, len(steps.stops(0, numbers)))
    launch_only = [flag for flag in ("so_path", "rec_package_path", "hccl_cfg_json", "ip")
                   if resolved != NPU and getattr(parsed, flag, None)]
    if launch_only:
        raise ConfigError("--%s is for the launch on NPUs; add --device npu, or leave it out" % launch_only[0])
    needs = model.needs()
    if not parsed.phase:
        needs.check(_available_memory())
        sys.stdout.write(needs.describe() + "\n")
        sys.stdout.flush()
    if parsed.eval_mode == steps.ALTERNATE and not parsed.phase:
        return alternation.alternate(request, model, parsed.rest)
    _quiet_tensorflow(parsed.debug)
    device.prepare_device(resolved)
    from estimator_app.training.train import train
    train(request, model)
    return 0


def _available_memory() -> Optional[int]:
    """Returns the bytes that this process may still use, where the system says so."""
    import resource
    limits = []
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            limits += [int(line.split()[1]) * 1024 for line in stream if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        limits += []  # Not Linux: what is not known is not checked.
    limits += [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit != resource.RLIM_INFINITY]
    return min(limits) if limits else None


def _prepare_sample(output_path: str) -> None:
    from preprocessing import prepare
    sys.stdout.write("no --data_dir given: making the sample data set in %s\n" % output_path)
    sys.stdout.flush()
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    prepare.run(parser.parse_args(["--sample", "--output_path", output_path]))


def _evaluate(parsed: argparse.Namespace) -> int:
    from estimator_app.launch import launch
    config, manifest = directory.read_settings(parsed.model_dir, _overrides(parsed))
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
    """Returns the device; a dry run of a launch on NPUs works on any machine."""
    return NPU if parsed.dry_run and config.device == NPU else device.resolve_device(config.device)


def _overrides(parsed: argparse.Namespace) -> Dict[str, Any]:
    names = {field.name for field in dataclasses.fields(Config)} - {"model_dir"}
    return {name: value for name, value in vars(parsed).items() if name in names}


def _predict(parsed: argparse.Namespace) -> int:
    sources = parsed.input or [_sample_test_file(parsed.model_dir)]
    target = parsed.output or os.path.join(parsed.model_dir, "predictions.%s" % parsed.format)
    _quiet_tensorflow(parsed.debug)
    from estimator_app.serving.predict import Prediction, predict
    from feature_specs.outputs import is_standard
    done = predict(Prediction(parsed.model_dir, parsed.checkpoint, tuple(sources), target, parsed.format,
                              parsed.batch_size, parsed.max_bad_rows, parsed.threads))
    out = sys.stderr if is_standard(target) else sys.stdout
    out.write("%d rows of %s scored into %s (%d without values), %.1f s, %.0f rows/s\n" % (
        done.rows, ", ".join(sources), target, done.bad_rows, done.seconds, done.rows / max(done.seconds, 1e-9)))
    return 0


def _sample_test_file(model_dir: str) -> str:
    config, _ = directory.read_settings(model_dir, {})
    raw = os.path.join(config.data_dir, "raw")
    names = sorted(name for name in os.listdir(raw) if "test" in name) if os.path.isdir(raw) else []
    if not names:
        raise ConfigError("predict needs --input FILE, the raw file to score")
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


def benchmark_names() -> List[str]:
    """Returns the names of the benchmarks: the modules of the folder that have a ``main``."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "benchmarks")
    return sorted(name[:-len(".py")] for name in os.listdir(folder)
                  if name.endswith(".py") and not name.startswith("_"))


def _bench(parsed: argparse.Namespace) -> int:
    import importlib
    return int(importlib.import_module("benchmarks." + parsed.name).main(parsed.rest[1:]) or 0)


def _preflight(parsed: argparse.Namespace) -> int:
    from estimator_app.launch import preflight
    return preflight.run(parsed, table_bytes=_table_bytes)


def _table_bytes(data_dir: str) -> int:
    """Returns the memory that the tables of a training with the dataset's preset need."""
    from estimator_app.model.definition import make_model
    manifest = read_manifest(data_dir)
    preset = manifest.dataset.preset or config_module.DEFAULT_PRESET
    return make_model(config_module.from_arguments({"data_dir": data_dir}, preset, os.environ),
                      manifest).needs().memory_bytes


def _prepare(parsed: argparse.Namespace) -> int:
    from preprocessing import prepare
    prepare.run(parsed)
    return 0


def _describe(parsed: argparse.Namespace) -> int:
    from preprocessing import describe
    describe.run(parsed)
    return 0


_ADDERS = {"prepare": _add_prepare, "describe": _add_describe, "train": _add_train, "eval": _add_eval,
           "predict": _add_predict, "export": _add_export, "preflight": _add_preflight, "bench": _add_bench,
           "tune": _add_tune}
_COMMANDS = {"prepare": _prepare, "describe": _describe, "train": _train, "eval": _evaluate, "predict": _predict,
             "export": _export, "preflight": _preflight, "bench": _bench, "tune": _tune}
