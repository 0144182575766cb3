"""Stand-in for ``mx_rec.graph.modifier``: graph modification and the hook that starts it (rec_sdk_api 5.1)."""
from typing import Any, List, Optional, Set

import tensorflow as tf

from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Bool, Instance, checked
from rec_sdk_cpu.mx_rec.core.asc.manager import start_asc_pipeline

NOT_MERGED = ("the lookups of this graph were not merged: compute the dense gradients with an optimizer's "
              "compute_gradients before tf.gradients, or call do_merge_lookup(is_train=True) yourself")
NO_OPTIMIZER = ("In training mode, table_instance should have been set_optimizer_for_table before modify_graph, please "
                "check whether apply_gradients is performed (table %s; Adagrad is not known to the SDK's host: use "
                "lazy Adam or gradient descent with DDR and SSD)")


@checked(Instance("full_graph", tf.Graph, optional=True), Bool("dump_graph"))
def modify_graph_and_start_emb_cache(full_graph: Optional[tf.Graph] = None, dump_graph: bool = False) -> None:
    """Starts the host pipeline after graph modification.

    The stand-in's lookups are real from the start, so the graph itself needs no change; what the SDK demands of it is
    checked, and the iterator initializers are left for ``get_initializer``.

    Args:
        full_graph: the graph, default the default graph.
        dump_graph: accepted; there is no modified graph to write.

    Raises:
        RuntimeError: the graph has no table; training lookups that were not merged; or a table in host memory that no
            optimizer serves.
        ValueError: tables in device memory and tables in host memory are mixed.

    Source: rec_sdk_api 4 (gradient recipe, Adagrad), 5.1.
    """
    del dump_graph
    graph = full_graph or tf.compat.v1.get_default_graph()
    with graph.as_default():
        state = graph_state.of()
        if state.trains_tensor_ids:
            if not state.lookups_merged:
                raise RuntimeError(NOT_MERGED)
            for table in state.tables.values():
                if not table.is_hbm and not table.has_optimizer:
                    raise RuntimeError(NO_OPTIMIZER % table.table_name)
        start_asc_pipeline()
        state.graph_modified = True
        _leave_initializers(state)


class GraphModifierHook(tf.compat.v1.train.SessionRunHook):
    """Starts the host pipeline when an Estimator's session begins; needed in every mode, one instance per hook list.

    Source: rec_sdk_api 5.1; ``if_load``: 1.4; warm start: 5.4.
    """

    @checked(Bool("dump_graph"), Bool("modify_graph"))
    def __init__(self, dump_graph: bool = False, modify_graph: bool = True):
        config = ConfigInitializer.get_instance()
        # Any hook that was ever made counts, as in the SDK: sessions ask for it, not for one of their own.
        config.train_params_config.is_graph_modify_hook_running = True
        self._dump_graph = dump_graph
        self._modify_graph = modify_graph
        self._state: Optional[graph_state.GraphState] = None

    def begin(self) -> None:
        """Starts the pipeline: with graph modification, or for FeatureSpec lookups without.

        Raises:
            RuntimeError: see :func:`modify_graph_and_start_emb_cache`; or tensor lookups in a graph that was not
                modified, with modify_graph=False.
        """
        self._state = graph_state.of()
        if self._modify_graph:
            modify_graph_and_start_emb_cache(dump_graph=self._dump_graph)
            return
        if self._state.uses_tensor_ids and not self._state.graph_modified:
            raise RuntimeError("this graph looks tensors of ids up and was not modified; a device would wait for its "
                               "ids for ever: call modify_graph_and_start_emb_cache() before the session, or use "
                               "GraphModifierHook(modify_graph=True)")
        start_asc_pipeline()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Warm-starts tables, where a warm start was asked for and no checkpoint was restored.

        Raises:
            RuntimeError: ``init(if_load=True)`` and no checkpoint was restored; on NPUs the host's threads would wait
                for it for ever.
        """
        del coord
        assert self._state is not None
        loads = [] if self._state.restored else self._state.warm_starts
        for load in loads:
            load(session)
        if ConfigInitializer.get_instance().if_load and not self._state.restored and not loads:
            raise RuntimeError("init(if_load=True), but this session restored no checkpoint: the host pipeline would "
                               "wait for one for ever. Pass if_load=True only where a checkpoint exists")


def _leave_initializers(state: graph_state.GraphState) -> None:
    """Leaves initializer and batch of the iterators that training and evaluation lookups read from."""
    parameters = ConfigInitializer.get_instance().train_params_config
    for is_train in (True, False):
        sources = {op for lookup in state.lookups if lookup.is_train == is_train
                   for op in _sources(lookup.positions.op)}
        if not sources:
            continue
        parameters.insert_training_mode_channel_id(is_train)
        parameters.target_batches[is_train] = next((state.batches[op] for op in sources if op in state.batches), None)
        parameters.initializers[is_train] = next(
            (consumer for op in sources for consumer in op.inputs[0].consumers() if consumer.type == "MakeIterator"),
            None)


def _sources(operation: tf.Operation) -> Set[tf.Operation]:
    found: Set[tf.Operation] = set()
    seen: Set[tf.Operation] = set()
    waiting: List[tf.Operation] = [operation]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.type in ("IteratorGetNext", "IteratorGetNextSync"):
            found.add(current)
        else:
            waiting.extend(tensor.op for tensor in current.inputs)
    return found
