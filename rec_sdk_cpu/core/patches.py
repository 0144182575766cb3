"""The patches of TensorFlow that the stand-in makes: the ones of the SDK that change what a program sees.

The real package patches far more (rec_sdk_api 0.1); here ``BaseSession`` (a device's loop, the sizes of tables),
``Saver`` (tables go into sparse folders),
``Estimator._export_all_saved_models`` (writes straight into the given folder), ``Estimator.train`` and ``evaluate``,
``_assert_eval_spec``, ``warm_start``, ``ChiefSessionCreator`` and ``Optimizer._scale_loss`` (the SDK's rules of use,
see :mod:`rec_sdk_cpu.core.estimator_rules`), ``Iterator.get_next`` (notes the batch), ``FileWriter`` (each rank has its
event files) and ``Dataset.eos_map``. A graph without tables behaves as in stock TensorFlow.
"""
import functools
import inspect
import os
from typing import Any, Callable, List, Optional, Tuple

import tensorflow as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.data.ops import dataset_ops, iterator_ops
from tensorflow.python.ops import variables as variables_ops
from tensorflow.python.training import monitored_session, warm_starting_util
from tensorflow.python.training import optimizer as optimizer_lib
from tensorflow_estimator.python.estimator import estimator as estimator_lib
from tensorflow_estimator.python.estimator import training as training_lib

from rec_sdk_cpu.core import (
    checksums,
    customized_optimizer,
    estimator_rules,
    graph_state,
    meta_graph_file,
    ranks,
    session_runs,
    sparse_files,
    sparse_saver,
)
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import MAX_INT32, Int
from rec_sdk_cpu.npu_bridge_modules.export_patch import patched_export_all_saved_models


def apply() -> Callable[[], None]:
    """Makes the patches and returns a function that undoes them."""
    saver = tf.compat.v1.train.Saver
    replaced: List[Tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__.get(name)
        replaced.append((owner, name, original))
        setattr(owner, name, make(original))

    replace(session_lib.BaseSession, "run", session_runs.make_run)
    replace(session_lib.BaseSession, "close", session_runs.make_close)
    replace(saver, "build", _make_build)
    replace(saver, "save", _make_save)
    replace(saver, "restore", _make_restore)
    replace(dataset_ops.DatasetV2, "eos_map", lambda _: _eos_map)
    replace(iterator_ops.Iterator, "get_next", _make_get_next)
    replace(estimator_lib.Estimator, "train", _make_train)
    replace(estimator_lib.Estimator, "evaluate", _make_evaluate)
    replace(estimator_lib.Estimator, "_export_all_saved_models", lambda _: patched_export_all_saved_models)
    replace(training_lib, "_assert_eval_spec", _make_assert_eval_spec)
    replace(warm_starting_util, "warm_start", _make_warm_start)
    replace(monitored_session.ChiefSessionCreator, "__init__", _make_creator_init)
    replace(monitored_session.ChiefSessionCreator, "create_session", _make_create_session)
    replace(tf.compat.v1.train.Optimizer, "_scale_loss", _make_scale_loss)
    replace(optimizer_lib._TensorProcessor, "update_op", lambda _: customized_optimizer.custom_update_op)
    replace(tf.compat.v1.summary.FileWriter, "__init__", _make_file_writer_init)

    def undo() -> None:
        for owner, name, original in reversed(replaced):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    return undo


def _make_build(original: Any) -> Any:
    @functools.wraps(original)
    def build(self: Any) -> None:
        state = graph_state.known()
        # A second call (Scaffold.finalize makes one) finds a saver_def and leaves everything as it is.
        if state is not None and self.saver_def is None:
            sparse = {id(variable) for variable in state.sparse_variables()}
            # The SDK ignores Saver(var_list=...) too: all saveables but the tables (rec_sdk_api 5.3).
            self._var_list = [saveable for saveable in variables_ops._all_saveable_objects()
                              if id(saveable) not in sparse]
            self._var_list.extend(merged for table in state.tables.values() if table.is_save
                                  for merged in table.merged_states.values())
            self._sparse_saver = sparse_saver.SparseSaver(state)
        original(self)
    return build


def _make_save(original: Any) -> Any:
    # No functools.wraps: the signature is the SDK's, with two arguments more than TensorFlow's.
    def save(self: Any, sess: Any, save_path: str, global_step: Any = None, latest_filename: Optional[str] = None,
             meta_graph_suffix: str = "meta", write_meta_graph: bool = True, write_state: bool = True,
             strip_default_attrs: bool = False, save_debug_info: bool = False,
             is_incremental_checkpoint: bool = False, save_delta: bool = False) -> Any:
        """Saves the dense variables and, before them, the tables of the graph (rec_sdk_api 5.3).

        Raises:
            ValueError: save_path is not allowed for tables.
            NotImplementedError: an incremental checkpoint.
        """
        if is_incremental_checkpoint or save_delta:
            raise NotImplementedError("the CPU stand-in does not provide incremental checkpoints")
        arguments: Tuple[Any, ...] = (latest_filename, meta_graph_suffix, write_meta_graph, write_state,
                                      strip_default_attrs, save_debug_info)
        sparse: Optional[sparse_saver.SparseSaver] = getattr(self, "_sparse_saver", None)
        if sparse is None:
            return original(self, sess, save_path, global_step, *arguments)
        sparse_files.check_save_path(save_path)
        if global_step is not None and not isinstance(global_step, int):
            global_step = int(tf.compat.v1.train.global_step(sess, global_step)
                              if isinstance(global_step, (tf.Tensor, tf.Variable)) else global_step)
        path = save_path if global_step is None else "%s-%d" % (save_path, global_step)
        sparse.write_share(sess, path)
        result = path
        with sparse.together(sess):
            # The files are rank 0's business.
            if not ranks.several() or ranks.get_rank_id() == 0:
                before = list(self.last_checkpoints)
                # An older checksum file of this step must not outlive the files that it describes. The sparse folder
                # first: TensorFlow's own files, which announce the checkpoint, come when it is whole.
                checksums.delete(path)
                known = sparse.save(sess, path)
                result = meta_graph_file.save(self, original, sess, save_path, global_step, arguments)
                checksums.write(path, known)
                for old in set(before) - set(self.last_checkpoints):
                    if not os.path.exists(old + ".index"):
                        sparse_saver.delete(old)
                        checksums.delete(old)
        config = ConfigInitializer._instance
        if config is not None:
            config.last_sparse_directory = sparse_files.sparse_directory(path)
        return result
    return save


def _make_restore(original: Any) -> Any:
    @functools.wraps(original)
    def restore(self: Any, sess: Any, save_path: str) -> None:
        original(self, sess, save_path)
        sparse: Optional[sparse_saver.SparseSaver] = getattr(self, "_sparse_saver", None)
        if sparse is not None:
            sparse.restore(sess, save_path)
    return restore


def _make_get_next(original: Any) -> Any:
    @functools.wraps(original)
    def get_next(self: Any, name: Optional[str] = None) -> Any:
        batch = original(self, name)
        operations = {tensor.op for tensor in tf.nest.flatten(batch) if isinstance(tensor, tf.Tensor)}
        for operation in operations:
            # Kept for get_target_batch: the op alone does not know the names of the batch's entries.
            graph_state.of(operation.graph).batches[operation] = batch
        return batch
    return get_next


def _eos_map(self: Any, librec: Any, channel_id: int, max_train_steps: int = -1, max_eval_steps: int = -1) -> Any:
    """Marks the end of the data for the host pipeline (rec_sdk_api 2.2); a CPU's dataset ends by itself."""
    Int("channel_id", 0, 1).check(channel_id)
    for name, steps in (("max_train_steps", max_train_steps), ("max_eval_steps", max_eval_steps)):
        Int(name, -1, MAX_INT32).check(steps)
    if librec is None:
        raise ValueError("eos_map needs the op library: import_host_pipeline_ops(LIBREC_EOS_OPS_SO)")
    return self


def _make_train(original: Any) -> Any:
    @functools.wraps(original)
    def train(self: Any, input_fn: Any, hooks: Any = None, steps: Optional[int] = None,
              max_steps: Optional[int] = None, saving_listeners: Any = None) -> Any:
        estimator_rules.check_training(self.config, steps, max_steps)
        estimator_rules.check_warm_start_hooks(self._warm_start_settings, hooks)
        return original(self, input_fn, hooks=hooks, steps=steps, max_steps=max_steps,
                        saving_listeners=saving_listeners)
    return train


def _make_evaluate(original: Any) -> Any:
    @functools.wraps(original)
    def evaluate(self: Any, input_fn: Any, steps: Optional[int] = None, *args: Any, **kwargs: Any) -> Any:
        estimator_rules.check_evaluation(steps)
        return original(self, input_fn, steps, *args, **kwargs)
    return evaluate


def _make_assert_eval_spec(original: Any) -> Any:
    @functools.wraps(original)
    def assert_eval_spec(eval_spec: Any) -> None:
        original(eval_spec)
        estimator_rules.check_train_and_evaluate(eval_spec)
    return assert_eval_spec


def _make_warm_start(original: Any) -> Any:
    @functools.wraps(original)
    def warm_start(ckpt_to_initialize_from: Any, vars_to_warm_start: Any = ".*", var_name_to_vocab_info: Any = None,
                   var_name_to_prev_var_name: Any = None) -> None:
        # The SDK's extension: several checkpoints, each with its names (rec_sdk_api 5.4).
        if not isinstance(ckpt_to_initialize_from, list):
            settings = [(ckpt_to_initialize_from, vars_to_warm_start, var_name_to_prev_var_name)]
        else:
            count = len(ckpt_to_initialize_from)
            renamed = var_name_to_prev_var_name or [None] * count
            if not all(isinstance(item, list) and len(item) == count for item in (vars_to_warm_start, renamed)):
                raise ValueError("warm start from %d checkpoints needs lists of %d for vars_to_warm_start and "
                                 "var_name_to_prev_var_name" % (count, count))
            settings = list(zip(ckpt_to_initialize_from, vars_to_warm_start, renamed))
        for checkpoint, names, previous in settings:
            dense = estimator_rules.prepare_warm_start(checkpoint, names)
            if dense or names is None:
                original(checkpoint, dense, var_name_to_vocab_info, previous)
    return warm_start


def _make_creator_init(original: Any) -> Any:
    @functools.wraps(original)
    def creator_init(self: Any, *args: Any, **kwargs: Any) -> None:
        estimator_rules.check_hook_constructed()
        original(self, *args, **kwargs)
    return creator_init


def _make_create_session(original: Any) -> Any:
    @functools.wraps(original)
    def create_session(self: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        estimator_rules.check_pipeline_started(graph)
        session = original(self)
        if graph_state.known(graph) is not None:
            session_runs.reuse_fetches(session)
        return session
    return create_session


def _make_file_writer_init(original: Any) -> Any:
    @functools.wraps(original)
    def file_writer_init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        # Ranks share a directory, and two writers of one event file corrupt it (rec_sdk_api 0.1).
        bound.arguments["filename_suffix"] = "%s_rank%s" % (
            bound.arguments.get("filename_suffix") or "", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        original(*bound.args, **bound.kwargs)
    return file_writer_init


def _make_scale_loss(original: Any) -> Any:
    function = original.__func__ if isinstance(original, staticmethod) else original

    @functools.wraps(function)
    def scale_loss(loss_value: Any) -> Any:
        estimator_rules.note_gradients()
        return function(loss_value)
    return staticmethod(scale_loss)
