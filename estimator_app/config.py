"""The configuration: one frozen dataclass, validated once; flags, presets and environment switches only fill it.

Later sources win: defaults, the preset file, the environment switches of the original script, the flags.
"""
import argparse
import dataclasses
import json
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from feature_specs.checks import check_path_text, did_you_mean, is_whole, parse_number, refuse
from feature_specs.dataset import MAX_BINS, TRANSFORMS
from feature_specs.errors import ConfigError
from feature_specs.files import read_small_text

SUM, CONCAT = "sum", "concat"
SCHEDULES = ("fixed", "cosine")
AUTO, CPU, NPU = "auto", "cpu", "npu"
DEVICES = (AUTO, CPU, NPU)
CACHE_MODES = ("HBM", "DDR", "SSD")
PRESET_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "presets")
DEFAULT_PRESET = "default"
# The settings of a preset that take the place of the others where values come rarely in the data.
_RARE = "where_values_are_rare"

# Switches of the original script (rec_sdk_api 7.2); each sets the field of its name in small letters.
ENVIRONMENT_SWITCHES = ("USE_DYNAMIC", "CACHE_MODE", "USE_FAAE", "USE_DYNAMIC_EXPANSION", "USE_MULTI_LOOKUP",
                        "USE_MODIFY_GRAPH")


def _field(default: Any, description: str, unit: str = "", bounds: Optional[Tuple[float, float]] = None,
           choices: Sequence[str] = ()) -> Any:
    return dataclasses.field(default=default, metadata={
        "help": description, "unit": unit, "bounds": bounds, "choices": tuple(choices)})


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of training; each field is a flag of the same name."""

    data_dir: str = _field("data/sample", "prepared data (with manifest.json)", "path")
    model_dir: str = _field("runs/default", "checkpoints, metrics and reports", "path")
    device: str = _field(AUTO, "auto: the NPU if mx_rec and npu_bridge can be imported, else the CPU", choices=DEVICES)

    model: str = _field("mmoe", "the network between embedding and tasks", "model")
    input_layer: str = _field(CONCAT, "sum: table rows are the first layer and are added up; concat: a vector per "
                                      "field", choices=(SUM, CONCAT))
    embedding_dim: int = _field(16, "values per table row, unless the dataset file sets dim (concat only)", "values",
                                (1, 8192))
    expert_num: int = _field(8, "experts that all tasks share", "experts", (1, 1024))
    expert_layers: Tuple[int, ...] = _field((16,), "units of an expert's layers, comma-separated", "units", (1, 8192))
    tower_layers: Tuple[int, ...] = _field((8,), "units of a tower's hidden layers, comma-separated", "units",
                                           (1, 8192))
    task_expert_num: int = _field(2, "experts that each task has for itself (ple only)", "experts", (1, 1024))
    expert_dropout: float = _field(0.0, "share of the expert outputs dropped in training", bounds=(0.0, 0.95))
    field_dropout: float = _field(0.0, "share of the fields' vectors dropped whole in training (concat only)",
                                  bounds=(0.0, 0.95))
    batch_norm: bool = _field(False, "batch normalisation in the experts")
    reference_init: bool = _field(False, "constant 0.1 for every weight, as the original port has it (degenerate)")
    embedding_stddev: float = _field(0.05, "standard deviation of new embedding rows", bounds=(0.0, 10.0))

    dense_transform: str = _field("log_standard", "normalisation of numeric features", choices=TRANSFORMS)
    dense_bins: int = _field(0, "equal-frequency bins per numeric feature as extra keys; 0: none", "bins",
                             (0, MAX_BINS))
    drop_dense: Tuple[str, ...] = _field((), "numeric features that the model must not see, comma-separated", "names")

    batch_size: int = _field(512, "training rows per step and rank; the global batch is this times the ranks", "rows",
                             (1, 1 << 20))
    train_epoch: int = _field(5, "passes over the training rows; 0: chosen from the data: one or a few if most values "
                                 "are rare, else 2 to 10; more for a tiny table", "epochs", (0, 100000))
    learning_rate: float = _field(0.001, "of the dense variables (Adam)", bounds=(1e-8, 10.0))
    sparse_learning_rate: float = _field(0.001, "of the embedding tables (lazy Adam)", bounds=(1e-8, 10.0))
    learning_rate_schedule: str = _field("fixed", "of the dense variables; cosine falls to 0 at the last step",
                                         choices=SCHEDULES)
    sparse_learning_rate_schedule: str = _field("fixed", "of the embedding tables", choices=SCHEDULES)
    embedding_l2: float = _field(0.0, "L2 penalty on the rows that a batch touches: this times a row is added to its "
                                      "gradient", bounds=(0.0, 1.0))
    task_weights: Tuple[str, ...] = _field((), "weights of the tasks' losses, comma-separated, task=weight; 1 for "
                                               "tasks not named", "task=weight")
    seed: int = _field(2020, "of initial weights and shuffling", bounds=(0, 2 ** 31 - 1))

    eval_batch_size: int = _field(4096, "evaluation rows per step and rank", "rows", (1, 1 << 20))
    eval_weight_column: str = _field("", "the dataset's weight column, or a numeric feature whose raw values weigh the "
                                         "rows in a second set of scores, weighted_auc_<task> and others", "name")
    eval_interval: int = _field(0, "steps between checkpoints, each followed by an evaluation; 0: one epoch", "steps",
                                (0, 2 ** 31 - 1))
    early_stopping_patience: int = _field(0, "end training after this many evaluations without a new best; 0: never",
                                          "evaluations", (0, 10 ** 6))
    early_stopping_metric: str = _field("", "metric of early stopping, such as auc_click; empty: the one that chooses "
                                            "the best checkpoint", "name")
    log_interval: int = _field(100, "steps between progress lines and training summaries", "steps", (1, 2 ** 31 - 1))
    keep_checkpoint_max: int = _field(5, "latest checkpoints to keep (the best one is kept as well)",
                                      "checkpoints", (1, 10000))

    shuffle_rows: int = _field(1 << 18, "rows in the record shuffle buffer; 0: keep the order of the files", "rows",
                               (0, 1 << 30))
    window_rows: int = _field(1 << 14, "rows parsed and shuffled together", "rows", (1, 1 << 20))
    prefetch: int = _field(0, "batches prepared ahead; 0: four per thread, at most 64", "batches", (0, 1000))
    threads: int = _field(0, "threads of TensorFlow and of the input pipeline; 0: one per core that the process "
                             "may use", "threads", (0, 1024))
    max_loss: float = _field(0.0, "a training loss above this stops the run, like a loss that is not finite; 0: no "
                                  "limit", bounds=(0.0, 1e30))

    use_dynamic: bool = _field(True, "dynamic shape of the SDK's exchange; false: static, with send_count")
    cache_mode: str = _field("HBM", "where the embedding tables live", choices=CACHE_MODES)
    use_faae: bool = _field(False, "feature admission and eviction")
    access_threshold: int = _field(1000, "occurrences in training before a key gets a row (use_faae only)",
                                   "occurrences", (1, 2 ** 31 - 1))
    eviction_threshold: int = _field(180, "time without an occurrence after which a key loses its row (use_faae only); "
                                          "0: never", "seconds", (0, 2 ** 31 - 1))
    eviction_interval: int = _field(180, "time between evictions (use_faae only)", "seconds", (1, 2 ** 31 - 1))
    use_dynamic_expansion: bool = _field(False, "tables that grow without a fixed capacity")
    use_multi_lookup: bool = _field(False, "look up the keys twice in the same table")
    use_modify_graph: bool = _field(False, "graph modification: tensors of keys instead of FeatureSpecs")
    table_capacity: int = _field(0, "rows of every embedding table over all ranks; 0: the rows of the dataset file, "
                                    "else the number of keys and a quarter more", "rows", (0, 10 ** 9))

    def __post_init__(self) -> None:
        for name in _FIELDS:
            _check_value(name, getattr(self, name))
        refuse(self.use_dynamic_expansion and self.cache_mode != "HBM",
               "use_dynamic_expansion goes with cache_mode HBM only, given %s", self.cache_mode)
        refuse(self.cache_mode != "HBM" and not self.use_modify_graph,
               "cache_mode %s needs use_modify_graph true: the SDK keeps tables in host memory only with graph "
               "modification", self.cache_mode)
        refuse(self.early_stopping_metric and not self.early_stopping_patience,
               "early_stopping_metric %s has no effect without early_stopping_patience; give both",
               self.early_stopping_metric)
        refuse(self.use_faae and self.use_dynamic_expansion,
               "use_faae does not go with use_dynamic_expansion: the SDK cannot evict there")

    @property
    def evicts(self) -> bool:
        """Whether keys lose their rows."""
        return self.use_faae and self.eviction_threshold > 0

    @property
    def lookups(self) -> int:
        """Lookups of a table per step."""
        return 2 if self.use_multi_lookup else 1

    def to_dict(self) -> Dict[str, Any]:
        """Returns JSON-ready settings."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def replace(self, **changes: Any) -> "Config":
        """Returns a validated copy with some fields changed."""
        return dataclasses.replace(self, **changes)


_FIELDS = Config.__dataclass_fields__


def from_mapping(values: Mapping[str, Any], source: str) -> Dict[str, Any]:
    """Turns JSON values into field values, or refuses (ConfigError) an unknown field; ``source`` has them."""
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ConfigError("%s: unknown setting %s%s; known: %s" % (
            source, ", ".join(unknown), did_you_mean(unknown[0], _FIELDS), ", ".join(sorted(_FIELDS))))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def preset_names() -> List[str]:
    """Returns the names of the preset files that come with the app."""
    return sorted(name[:-len(".json")] for name in os.listdir(PRESET_DIRECTORY) if name.endswith(".json"))


def read_preset(name: str, has_rare_values: bool = False) -> Dict[str, Any]:
    """Reads a preset: a name that comes with the app, or the path of a JSON file; refused (ConfigError) if unsound.

    ``has_rare_values``: whether values come rarely in the data, for which a preset may have other settings.
    """
    path = os.path.join(PRESET_DIRECTORY, name + ".json") if name in preset_names() else name
    try:
        values = json.loads(read_small_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError("preset %r cannot be read (%s)%s; give one of %s or the path of a JSON file" % (
            name, getattr(error, "strerror", None) or error, did_you_mean(name, preset_names()),
            ", ".join(preset_names()))) from error
    rare = values.pop(_RARE, {}) if isinstance(values, dict) else None
    refuse(not isinstance(rare, dict), "preset %s: an object of settings is expected", path)
    found, others = (from_mapping({key: value for key, value in part.items() if key != "_comment"}, "preset %s" % path)
                     for part in (values, rare))
    for key, value in [*found.items(), *others.items()]:  # also what this data does not ask for
        try:
            _check_value(key, value)
        except ConfigError as error:
            raise ConfigError("preset %s: %s" % (path, error)) from error
    return {**found, **others} if has_rare_values else found


def from_environment(environment: Mapping[str, str]) -> Dict[str, Any]:
    """Returns {field: value} of the original script's switches that are set; other values are a ConfigError."""
    values: Dict[str, Any] = {}
    for variable in ENVIRONMENT_SWITCHES:
        text = environment.get(variable, "")
        allowed = CACHE_MODES if variable == "CACHE_MODE" else ("0", "1")
        refuse(text and text not in allowed, "environment variable %s=%r; allowed: %s", variable, text,
               ", ".join(allowed))
        if text:
            values[variable.lower()] = text if variable == "CACHE_MODE" else text == "1"
    return values


def add_arguments(parser: argparse.ArgumentParser, shown: "Config", names: Sequence[str] = (),
                  choices: Optional[Mapping[str, Sequence[str]]] = None,
                  meanings: Optional[Mapping[str, str]] = None) -> None:
    """Adds a flag for each field, or for those of some names.

    The help has the values of ``shown``, which a run without further flags would use, and {field: what its value comes
    to} where the value does not say it; ``choices`` are {field: allowed values} that other modules know.
    """
    for name in names or _FIELDS:
        field, meta = _FIELDS[name], _FIELDS[name].metadata
        read, metavar = _FORMS.get(meta["unit"]) or _FORMS[type(field.default)]
        text = "%s%s (default: %s%s)" % (meta["help"], " [%s]" % meta["unit"] if meta["unit"] else "",
                                         _shown(getattr(shown, name)), (meanings or {}).get(name, ""))
        allowed = (choices or {}).get(name, meta["choices"])
        parser.add_argument("--" + name, default=argparse.SUPPRESS, type=read, metavar="|".join(allowed) or metavar,
                            help=text.replace("%", "%%"))


def add_preset_argument(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds ``--preset``; ``name`` is the one that a run without the flag would use."""
    parser.add_argument("--preset", default="", metavar="NAME|FILE",
                        help="settings file: %s, one made for the census (%s), or the path of a JSON file; a dataset "
                             "file may name one (default: %s)" % (DEFAULT_PRESET, ", ".join(
                                 item for item in preset_names() if item != DEFAULT_PRESET), name))


def from_arguments(flags: Mapping[str, Any], preset: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """Builds the configuration of a command line, or raises ConfigError; flags that are no fields do not count."""
    given = {name: value for name, value in flags.items() if name in _FIELDS}
    return Config(**{**preset, **from_environment(environment), **given})


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text or "none"


def _parse_names(text: str) -> Tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_layers(text: str) -> Tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("%r: give units per layer, such as 64,16" % text) from None


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise argparse.ArgumentTypeError("%r is neither true nor false" % text)
    return text.lower() in ("true", "1")


# {unit or type of a field: what reads its text, what stands for a value in the help}.
_FORMS: Dict[Any, Tuple[Callable[[str], Any], str]] = {
    "units": (_parse_layers, "N,N,..."), "task=weight": (_parse_names, "TASK=W,..."), "name": (str, "NAME"),
    tuple: (_parse_names, "A,B"), bool: (_parse_bool, "true|false"), int: (int, "N"), float: (parse_number, "X"),
    str: (str, "PATH")}


def _check_value(name: str, value: Any) -> None:
    default, meta = _FIELDS[name].default, _FIELDS[name].metadata
    kind = type(default)
    allowed: Any = (int, float) if kind is float else kind
    refuse(not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool), "%s must be %s, given %r",
           name, {bool: "true or false", tuple: "a list"}.get(kind, "of type %s" % kind.__name__), value)
    if meta["unit"] == "path":
        check_path_text(name, value)
    refuse(meta["choices"] and value not in meta["choices"], "%s %r is not allowed; choose from %s", name, value,
           ", ".join(meta["choices"]))
    if meta["bounds"]:
        low, high = meta["bounds"]
        for item in value if kind is tuple else (value,):
            refuse(not (is_whole(item) or isinstance(item, float)) or not low <= item <= high,
                   "%s %s is out of range; allowed: %s to %s", name, item, low, high)
    elif kind is tuple:
        refuse(not all(isinstance(item, str) for item in value), "%s must be a list of texts, given %r", name, value)
    refuse(meta["unit"] == "units" and not value, "%s must name at least one layer", name)
    refuse(kind is str and default and not value, "%s must not be empty", name)
