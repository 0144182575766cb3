"""What the SDK demands of Estimator programs, checked where a cluster would hang or fail late.

Step contract (rec_sdk_api 1.1, 5.2, 11.4): the host prefetches batches and stops at the multiples of the step numbers
that ``init`` was given until the program has run as many; numbers that differ from the Estimator's hang or corrupt.
"""
import re
from typing import Any, List, Optional

import tensorflow as tf

from rec_sdk_cpu.core import graph_state, sparse_files
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.sparse_saver import TableOps

NO_HOOK = ("a tensor of ids is looked up with modify_graph=True, but no GraphModifierHook was constructed: put "
           "GraphModifierHook() into the hooks of train, evaluate and predict")
NOT_RUNNING = ("KeyProcess not running. The host pipeline was not started: call start_asc_pipeline(), or put "
               "GraphModifierHook(modify_graph=False) into the hooks")
NOT_MODIFIED = "this graph looks tensors of ids up and was not modified: its hooks need a GraphModifierHook()"
NO_GRADIENTS = "No gradients provided for any variable"


def check_training(run_config: Any, steps: Optional[int], max_steps: Optional[int]) -> None:
    """Checks a training call against the step numbers of ``init``.

    Args:
        run_config: the Estimator's configuration.
        steps, max_steps: as given to ``train``.

    Raises:
        ValueError: the numbers differ.
    """
    config = ConfigInitializer._instance
    if config is None:
        return
    saving = run_config.save_checkpoints_steps or 0
    if saving and config.save_steps != saving:
        raise ValueError("init(save_steps=%d), but the run saves a checkpoint every %d steps (save_checkpoints_steps): "
                         "the numbers must be equal, or the host pipeline hangs" % (config.save_steps, saving))
    if config.max_steps != -1 and max_steps is not None and config.max_steps != max_steps:
        raise ValueError("init(max_steps=%d), but the Estimator trains to max_steps=%d: the numbers must be equal, or "
                         "the host pipeline hangs" % (config.max_steps, max_steps))
    if config.max_steps != -1 and steps is not None and steps > config.max_steps:
        raise ValueError("init(max_steps=%d), but the Estimator trains for steps=%d" % (config.max_steps, steps))


def check_evaluation(steps: Optional[int]) -> None:
    """Checks the batches of an evaluation against ``init(eval_steps=...)``; -1 there means no limit.

    Raises:
        ValueError: the numbers differ.
    """
    config = ConfigInitializer._instance
    if config is not None and config.eval_steps != -1 and config.eval_steps != steps:
        raise ValueError("init(eval_steps=%d), but the evaluation runs steps=%s: the numbers must be equal, or the "
                         "host pipeline hangs" % (config.eval_steps, steps))


def check_train_and_evaluate(eval_spec: Any) -> None:
    """Checks the numbers of train_and_evaluate: train_steps == save_steps, eval_steps == EvalSpec.steps.

    Raises:
        ValueError: they differ.
    """
    config = ConfigInitializer._instance
    if config is None:
        return
    if config.train_steps != config.save_steps:
        raise ValueError("train_and_evaluate needs init(train_steps == save_steps), given train_steps=%d and "
                         "save_steps=%d: evaluation follows every checkpoint" % (config.train_steps, config.save_steps))
    steps = -1 if eval_spec.steps is None else eval_spec.steps
    if config.eval_steps != steps:
        raise ValueError("train_and_evaluate needs init(eval_steps == EvalSpec.steps), given eval_steps=%d and "
                         "EvalSpec.steps=%s" % (config.eval_steps, eval_spec.steps))


def check_hook_constructed() -> None:
    """Checks, when a session creator is made, that a lookup of a tensor has its hook (rec_sdk_api 5.1).

    Raises:
        RuntimeError: no GraphModifierHook was ever constructed.
    """
    config = ConfigInitializer._instance
    if config is not None and config.modify_graph and not config.train_params_config.is_graph_modify_hook_running:
        raise RuntimeError(NO_HOOK)


def check_pipeline_started(graph: tf.Graph) -> None:
    """Checks, before a session runs iterator initializers, that the host pipeline serves the graph.

    Raises:
        RuntimeError: it does not.
    """
    state = graph_state.known(graph)
    if state is None or not state.lookups or state.pipeline_started:
        return
    if state.uses_tensor_ids:
        raise RuntimeError(NOT_MODIFIED)
    if state.uses_feature_specs and ConfigInitializer.get_instance().hybrid_manager_config.asc_manager is None:
        raise RuntimeError(NOT_RUNNING)


def note_gradients() -> None:
    """Notes that dense gradients are computed, which merges the lookups (rec_sdk_api 4, gradient recipe).

    Raises:
        RuntimeError: the graph has training lookups and each has ``is_grad=False``.
    """
    state = graph_state.known()
    if state is None:
        return
    state.lookups_merged = True
    if any(lookup.is_train for lookup in state.lookups) and not any(
            table.gradient_enabled for table in state.tables.values()):
        raise RuntimeError("%s: every lookup has is_grad=False" % NO_GRADIENTS)


def check_warm_start_hooks(settings: Any, hooks: Any) -> None:
    """Checks that a warm-started training call has a mutable list of hooks (rec_sdk_api 5.4).

    Raises:
        ValueError: hooks is not a list.
    """
    if settings is not None and ConfigInitializer._instance is not None and not isinstance(hooks, list):
        raise ValueError("a warm start needs train(hooks=<a list>): the SDK appends the hook that loads the tables, "
                         "given %r" % (hooks,))


def prepare_warm_start(checkpoint: str, names: Any) -> Any:
    """Prepares the tables of the graph for a warm start; GraphModifierHook loads them.

    The rows are loaded, not the optimizer states, as TensorFlow's warm start takes weights and no accumulators.

    Args:
        checkpoint: path of a checkpoint, or a directory that holds some.
        names: regular expression or list of them.

    Returns:
        ``names`` for TensorFlow's own warm start: a list loses the names of tables.

    Raises:
        ValueError: dynamic expansion is on (rec_sdk_api 5.4), or the directory holds no checkpoint.
    """
    state = graph_state.known()
    if state is None or names is None:
        return names
    if ConfigInitializer.get_instance().use_dynamic_expansion:
        raise ValueError("warm start is not supported with dynamic expansion")
    path = tf.train.latest_checkpoint(checkpoint) if tf.io.gfile.isdir(checkpoint) else checkpoint
    if path is None:
        raise ValueError("warm start: %s holds no checkpoint" % checkpoint)
    directory = sparse_files.sparse_directory(path)
    patterns: List[str] = [names] if isinstance(names, str) else list(names)
    present = sparse_files.tables(directory)
    for name, table in state.tables.items():
        if name in present and any(re.match(pattern, name) for pattern in patterns):
            state.warm_starts.append(_loader(TableOps(table), directory))
    if isinstance(names, str):
        return names
    return [name for name in names if name not in state.tables]


def _loader(ops: TableOps, directory: str) -> Any:
    return lambda session: ops.load(session, directory, optimizer_states=False)
