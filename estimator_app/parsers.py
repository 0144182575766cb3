"""The commands and their flags. Nothing heavier than NumPy is imported, so that ``--help`` is quick."""
import argparse
import glob
import os
import sys
from typing import Any, Dict, NoReturn, Optional, Sequence, Tuple

from estimator_app import config as config_module
from estimator_app.config import Config
from estimator_app.launch import preflight
from estimator_app.launch.environment import add_launch_arguments
from estimator_app.model_dir import directory
from estimator_app.streams import one_line
from feature_specs.checks import did_you_mean, is_digits
from feature_specs.errors import UserError
from feature_specs.files import PROJECT
from feature_specs.manifest import FILE_NAME, read_manifest

PROG = "run_estimator.sh"
MODEL_DIR, SAMPLE_DIR = Config.model_dir, Config.data_dir  # the defaults
_MODEL_COMMAND_FIELDS = ("data_dir", "device", "eval_batch_size", "eval_weight_column", "prefetch", "threads")
COMMANDS = {
    "describe": "look at data files and draft a dataset file",
    "prepare": "raw files -> vocabulary, TFRecord shards, manifest",
    "train": "train, evaluate at every checkpoint, keep the best and the latest",
    "eval": "evaluate a checkpoint; the last line is JSON",
    "predict": "score raw files with a trained model, row by row and in order",
    "export": "write a SavedModel that needs nothing but TensorFlow, and check it",
    "tune": "search settings on validation rows, which are taken from the training rows; resumable",
    "bench": "measure speed or quality against a baseline",
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
            flag = rest.split()[0]
            known = [name for action in self._actions for name in action.option_strings]
            message = "unknown flag %s%s" % (flag, did_you_mean(flag.partition("=")[0], known, "; "))
            if not flag.startswith("-"):
                message = "%s stands without a flag; give it as that of one, such as --data_dir %s" % (flag, flag)
        self.exit(2, "error: %s; %s --help lists all flags\n" % (one_line(message), self.prog))


def build_parser(command: str, arguments: Sequence[str]) -> Parser:
    """Returns the parser of a command; its help shows the values that this very command line would use."""
    parser = Parser(prog="%s %s" % (PROG, command), description=COMMANDS[command], allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show stack traces and TensorFlow's log")
    if command == "describe":
        from preprocessing.drafting import describe
        describe.add_arguments(parser)
    elif command == "prepare":
        from preprocessing import prepare
        prepare.add_arguments(parser)
    elif command == "train":
        _add_train(parser, arguments)
    elif command == "eval":
        _add_eval(parser, arguments)
    elif command == "predict":
        _add_predict(parser)
    elif command == "export":
        _add_export(parser)
    elif command == "tune":
        from estimator_app.tuning import tune
        data_dir = _flag(arguments, "--data_dir") or SAMPLE_DIR
        name, preset = preset_of(data_dir, _flag(arguments, "--preset"))
        tune.add_arguments(parser, data_dir, name, preset, _flag(arguments, "--space"))
        parser.set_defaults(chosen_preset=preset)
    elif command == "bench":
        benchmarks = benchmark_purposes()
        parser.add_argument("name", choices=sorted(benchmarks), metavar="NAME",
                            help="the benchmark; its own flags follow")
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join("  %-10s %s" % item for item in benchmarks.items())
    elif command == "preflight":
        preflight.add_arguments(parser)
    return parser


def _flag(arguments: Sequence[str], name: str) -> str:
    """Returns the last value of a flag on a command line that is not parsed yet, or nothing."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, dest="value", nargs="?", default="", const="")
    return str(parser.parse_known_args(list(arguments))[0].value)


def _data_of(arguments: Sequence[str]) -> str:
    """Returns the data directory of a training: as given, what its model directory was trained on, or the sample."""
    given, model_dir = _flag(arguments, "--data_dir"), _flag(arguments, "--model_dir")
    stages = [] if given or not model_dir else directory.read_stages(model_dir)
    return given or (stages[-1].data.directory if stages else SAMPLE_DIR)


def preset_of(data_dir: str, given: str = "") -> Tuple[str, Dict[str, Any]]:
    """Returns name and settings of the preset of a training: as given, the dataset's own, or the default."""
    if not os.path.isfile(os.path.join(data_dir, FILE_NAME)):
        name = given or ("census" if data_dir == SAMPLE_DIR else config_module.DEFAULT_PRESET)
        return name, config_module.read_preset(name)
    manifest = read_manifest(data_dir)
    name = given or manifest.dataset.preset or config_module.DEFAULT_PRESET
    return name, config_module.read_preset(name, manifest.has_rare_values)


def _add_train(parser: Parser, arguments: Sequence[str]) -> None:
    from estimator_app.model.networks import NETWORKS
    from estimator_app.training.steps import AUTO, EVAL_MODES
    data_dir = _data_of(arguments)
    name, preset = preset_of(data_dir, _flag(arguments, "--preset"))
    shown = config_module.from_arguments({"data_dir": data_dir}, preset, os.environ)
    config_module.add_preset_argument(parser, name)
    asked = not shown.train_epoch and not {"-h", "--help"}.isdisjoint(arguments)
    config_module.add_arguments(parser, shown, choices={"model": sorted(NETWORKS)},
                                meanings={"train_epoch": _passes(shown, arguments)} if asked else {})
    add = parser.add_argument
    add("--fresh", action="store_true",
        help="start over; the old run moves into a subdirectory of the model directory; exports and predictions stay "
             "(default: resume from the last checkpoint)")
    add("--continue_on", action="store_true",
        help="continue training on other data, prepared with --vocabulary_from the model (default: other data is "
             "refused)")
    add("--warm_start_from", default="", metavar="PATH",
        help="model directory; a new model takes over its variables and tables where they fit [path] (default: none)")
    add("--verify_data", action="store_true",
        help="compare all data files with their hashes again (default: once per data directory)")
    add("--eval_mode", default=AUTO, choices=EVAL_MODES, metavar="|".join(EVAL_MODES),
        help="how training and evaluation take turns; auto: train_and_evaluate on a CPU, alternate on NPUs (default: "
             "auto)")
    add("--phase", default="", help=argparse.SUPPRESS)
    # What a flag that is empty or absent stands for.
    parser.set_defaults(chosen_data_dir=data_dir, chosen_preset=preset, chosen_preset_name=name)
    add_launch_arguments(parser)


def _passes(config: Config, arguments: Sequence[str]) -> str:
    """Says how many passes a command line makes whose settings leave them to the data, where that is there."""
    from estimator_app.training.steps import step_numbers
    ranks, rows = (_flag(arguments, name) for name in ("--ranks", "--batch_size"))
    try:
        config = config.replace(batch_size=int(rows)) if is_digits(rows) else config
        numbers = step_numbers(config, read_manifest(config.data_dir), 0, 0, int(ranks) if is_digits(ranks) else 1)
    except UserError:
        return ""
    return ", which is %d on %s with batches of %d" % (numbers.epochs, config.data_dir, config.batch_size)


def _add_model_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("--model_dir", default=MODEL_DIR, metavar="PATH",
        help="model directory that train wrote [path] (default: %s)" % MODEL_DIR)
    add("--checkpoint", default="latest", metavar="latest|best|STEP", help="which checkpoint (default: latest)")


def _add_eval(parser: Parser, arguments: Sequence[str]) -> None:
    model_dir = _flag(arguments, "--model_dir") or MODEL_DIR
    stages = directory.read_stages(model_dir)
    shown = stages[-1].to_config(model_dir) if stages else Config()
    _add_model_arguments(parser)
    config_module.add_arguments(parser, shown, _MODEL_COMMAND_FIELDS)
    add_launch_arguments(parser)


def _add_predict(parser: Parser) -> None:
    _add_model_arguments(parser)
    add = parser.add_argument
    add("--input", nargs="+", metavar="FILE",
        help="raw files in the dataset's format, directories or patterns; - is standard input; labels, weight, group "
             "and row key may be absent [path] (default: the sample's test file, where the model was trained on the "
             "sample)")
    add("--output", metavar="FILE",
        help="file to write; - is standard output; .gz is compressed [path] (default: predictions.csv in the model "
             "directory)")
    add("--format", default="csv", choices=("csv", "jsonl"), metavar="csv|jsonl",
        help="a header and a line per row, or an object per row (default: csv)")
    add("--max_bad_rows", metavar="N|P%", default="0",
        help="unusable rows that are allowed; each leaves a line without values [rows, or percent] (default: 0)")
    add("--batch_size", type=int, default=4096, metavar="N", help="rows scored together [rows] (default: %(default)d)")
    add("--threads", type=int, default=0, metavar="N",
        help="threads for scoring; 0: one per core [threads] (default: %(default)d)")


def _add_export(parser: Parser) -> None:
    _add_model_arguments(parser)
    add = parser.add_argument
    add("--export_dir", metavar="PATH",
        help="base directory of the versions [path] (default: export in the model directory)")
    add("--data_dir", metavar="PATH",
        help="prepared data whose evaluation rows check the export [path] (default: the data that the model was "
             "trained on)")
    add("--check_rows", type=int, default=1024, metavar="N", help="rows of the check [rows] (default: %(default)d)")


def benchmark_purposes() -> Dict[str, str]:
    """Returns {benchmark: what its module's first line says of it}."""
    found = {}
    for path in sorted(glob.glob(os.path.join(PROJECT, "benchmarks", "[!_]*.py"))):
        with open(path, encoding="utf-8") as stream:
            found[os.path.basename(path)[:-len(".py")]] = stream.readline().strip('"\n').partition(":")[0]
    return found
