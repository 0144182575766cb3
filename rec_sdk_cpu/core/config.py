"""The process-wide configuration singleton behind ``init`` (rec_sdk_api 1)."""
import atexit
import logging
import os
import weakref
from typing import Any, Dict, Optional

from rec_sdk_cpu.core import constants, ranks
from rec_sdk_cpu.core.validator import MAX_INT32, Bool, Int, Text, checked

logger = logging.getLogger("rec_sdk_cpu")

NOT_INITIALIZED = "Please init the environment for mx_rec at first."
INITIALIZED_TWICE = "ConfigInitializer has been initialized once, twice initialization was forbidden."


class TrainParamsConfig:
    """What the training graphs leave for the user: iterator initializers, batches, the collection's name."""

    def __init__(self) -> None:
        self._collection = constants.ASCEND_GLOBAL_HASHTABLE_COLLECTION
        self.initializers: Dict[bool, Any] = {}
        self.target_batches: Dict[bool, Any] = {}
        self.bool_gauge_set: set = set()
        self.is_graph_modify_hook_running = False
        self._channels: Dict[bool, int] = {}

    def insert_training_mode_channel_id(self, is_training: bool) -> None:
        """Notes that a dataset of a mode goes through its channel."""
        self._channels[is_training] = constants.TRAIN_CHANNEL_ID if is_training else constants.EVAL_CHANNEL_ID

    def get_training_mode_channel_id(self, is_training: bool) -> Optional[int]:
        """Returns the channel of a mode, 0 or 1, or None where no dataset of that mode has been seen."""
        return self._channels.get(is_training)

    def get_initializer(self, is_training: bool) -> Any:
        """Returns the iterator initializer of a channel, or None for a one-shot iterator."""
        return self.initializers.get(bool(is_training))

    def get_target_batch(self, is_training: bool) -> Any:
        """Returns the batch of a channel's dataset after graph modification."""
        return self.target_batches.get(bool(is_training))

    @property
    def ascend_global_hashtable_collection(self) -> str:
        """Name of the graph collection that holds the table variables."""
        return self._collection

    @ascend_global_hashtable_collection.setter
    def ascend_global_hashtable_collection(self, name: str) -> None:
        Text("name", 1, 255).check(name)
        self._collection = name


class SparseEmbedConfig:
    """The tables of this process, by name; a name stays known when its graph is gone."""

    def __init__(self) -> None:
        self.table_instance_dict: Dict[str, Any] = {}

    @property
    def table_name_set(self) -> set:
        """Names of all tables made so far."""
        return set(self.table_instance_dict)

    def get_table_instance_by_name(self, table_name: str) -> Any:
        """Returns the latest table of that name.

        Raises:
            KeyError: there is no such table.
        """
        if table_name not in self.table_instance_dict:
            raise KeyError("table %r has not been created; tables: %s" % (table_name, sorted(self.table_name_set)))
        return self.table_instance_dict[table_name]

    def get_table_instance(self, key: Any) -> Any:
        """Returns the table of a table variable, or with dynamic expansion of an address.

        Raises:
            KeyError: there is no such table.
        """
        for table in self.table_instance_dict.values():
            if table.variable is key or table.owns_address(key):
                return table
        raise KeyError("given key => '%s' does not exist" % (key,))


class HybridManagerConfig:
    """Whether the host pipeline runs."""

    def __init__(self) -> None:
        self.asc_manager: Optional[object] = None

    @property
    def freeze(self) -> bool:
        """Whether the pipeline runs, so that no new table can be made."""
        return self.asc_manager is not None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError("hybrid_manager_config.%s is not provided by the CPU stand-in: it speaks to the host's "
                             "process; programs evict with EvictHook" % name)


class OptimizerConfig:
    """The sparse optimizer: the one created last serves all tables (rec_sdk_api 4)."""

    def __init__(self) -> None:
        self.optimizer_instance: Any = None
        self._states: Dict[str, Dict[str, Any]] = {}

    def set_optimizer_for_table(self, table_name: str, optimizer_name: str, optimizer_dict: Dict[str, Any]) -> None:
        """Notes the states that a program's own optimizer keeps of a table: {state: variable}."""
        self._states[table_name] = {optimizer_name: optimizer_dict}

    def get_optimizer_by_table_name(self, table_name: str) -> Optional[Dict[str, Any]]:
        """Returns {optimizer: {state: variable}} of a table, or None."""
        return self._states.get(table_name)


class ConfigInitializer:
    """The singleton made by :func:`init`; user code reads it through :meth:`get_instance`."""

    _instance: Optional["ConfigInitializer"] = None
    # Which SDK generation is reproduced where they differ; rec_sdk_cpu.install() sets it.
    generation = "G3"

    def __init__(self, max_steps: int = -1, train_steps: int = -1, eval_steps: int = -1, save_steps: int = -1,
                 if_load: bool = False, use_dynamic: bool = True, use_dynamic_expansion: bool = False,
                 use_lccl: bool = False, bind_cpu: bool = True, **_others: Any):
        self.max_steps = max_steps
        self.train_steps = train_steps
        self.eval_steps = eval_steps
        self.save_steps = save_steps
        self.if_load = if_load
        self.use_static = not use_dynamic
        self._use_dynamic_expansion = use_dynamic_expansion
        self.use_lccl = use_lccl
        self.bind_cpu = bind_cpu
        # Incremental checkpoints, which the stand-in does not provide: what was given can be read all the same.
        self.is_incremental_checkpoint = False
        self.save_checkpoint_due_time = _others.get("save_checkpoint_due_time")
        self.save_delta_checkpoints_secs = _others.get("save_delta_checkpoints_secs")
        self.restore_model_version = _others.get("restore_model_version")
        self.modify_graph = False
        self.timestamp_traced = False
        self.last_sparse_directory: Optional[str] = None
        self.train_params_config = TrainParamsConfig()
        self.sparse_embed_config = SparseEmbedConfig()
        self.hybrid_manager_config = HybridManagerConfig()
        self.optimizer_config = OptimizerConfig()
        # Weak: a FeatureSpec knows a tensor of its dataset, and with it the whole graph of an evaluation that is over.
        self.feature_spec_config: Dict[bool, Any] = {True: weakref.WeakSet(), False: weakref.WeakSet()}

    @property
    def use_dynamic_expansion(self) -> bool:
        """Whether tables grow without a fixed capacity (read-only)."""
        return self._use_dynamic_expansion

    @classmethod
    def get_instance(cls) -> "ConfigInitializer":
        """Returns the singleton.

        Raises:
            EnvironmentError: :func:`init` has not run.
        """
        if cls._instance is None:
            raise OSError(NOT_INITIALIZED)
        return cls._instance


def reset() -> None:
    """Forgets the singleton; for :func:`rec_sdk_cpu.uninstall` and tests."""
    ConfigInitializer._instance = None


@checked(
    Int("max_steps", -1, MAX_INT32), Int("train_steps", -1, MAX_INT32), Int("eval_steps", -1, MAX_INT32),
    Int("save_steps", -1, MAX_INT32), Bool("if_load"), Bool("use_dynamic"), Bool("use_dynamic_expansion"),
    Bool("use_lccl"), Bool("bind_cpu"), Bool("is_incremental_checkpoint"),
    Int("save_checkpoint_due_time", 1, MAX_INT32),
    Int("save_delta_checkpoints_secs", 1, MAX_INT32),
    Int("restore_model_version", 0, MAX_INT32), Int("recent_key_count_threshold", 0, MAX_INT32))
def init(**kwargs: Any) -> None:
    """Initialises the SDK once per process (rec_sdk_api 1.1); unknown keywords are ignored, as the SDK ignores them.

    Args:
        **kwargs: max_steps, train_steps, eval_steps, save_steps (steps, int >= -1), if_load, use_dynamic,
            use_dynamic_expansion, use_lccl, bind_cpu (bool), and the incremental checkpoint settings, which the
            stand-in does not provide.

    Raises:
        ValueError: a value has the wrong type or range, or all given step numbers are 0.
        EnvironmentError: the SDK was initialised before in this process.
        RuntimeError: the OMPI_COMM_WORLD_* variables are missing, or they announce several ranks that cannot be
            reached (:func:`rec_sdk_cpu.core.collectives.engine`).
        NotImplementedError: an incremental checkpoint is asked for.
    """
    steps = [kwargs[name] for name in ("max_steps", "train_steps", "eval_steps") if name in kwargs]
    if steps and not any(steps):
        raise ValueError("max_steps, train_steps and eval_steps: not all of those given may be 0")
    if kwargs.get("is_incremental_checkpoint"):
        for name in ("save_checkpoint_due_time", "save_delta_checkpoints_secs"):
            if kwargs.get(name) is None:
                raise ValueError("%s is required with is_incremental_checkpoint=True" % name)
        raise NotImplementedError("the CPU stand-in does not provide incremental checkpoints")
    if ConfigInitializer._instance is not None:
        raise OSError(INITIALIZED_TWICE)
    ranks.get_rank_id()
    ranks.get_rank_size()
    ranks.get_local_rank_size()
    if ranks.several():
        # Imported here: one rank needs nothing of it.
        from rec_sdk_cpu.core import collectives
        collectives.engine()
    os.environ.setdefault("ASCEND_DEVICE_ID", "0")
    os.environ["JOB_ID"] = "10086"
    ConfigInitializer._instance = ConfigInitializer(**kwargs)
    atexit.register(_terminate_at_exit)
    logger.info("the CPU stand-in of the Rec SDK is initialised: %s", kwargs)


def terminate_config_initializer() -> None:
    """Ends the host pipeline; a call without :func:`init`, or a second one, only warns (rec_sdk_api 1.2)."""
    instance = ConfigInitializer._instance
    if instance is None:
        logger.warning("terminate_config_initializer: the SDK has not been initialised")
        return
    if instance.hybrid_manager_config.asc_manager is None:
        logger.warning("terminate_config_initializer: the host pipeline does not run")
    instance.hybrid_manager_config.asc_manager = None


def _terminate_at_exit() -> None:
    instance = ConfigInitializer._instance
    if instance is not None:
        instance.hybrid_manager_config.asc_manager = None
