"""Stand-in for ``mx_rec.graph.merge_lookup`` (rec_sdk_api 4, gradient recipe)."""
from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Bool, checked


@checked(Bool("is_train"))
def do_merge_lookup(is_train: bool = True) -> None:
    """Merges the lookups of each table, for programs that call tf.gradients without compute_gradients.

    The stand-in's lookups need no merging; the call is noted, because the pipeline does not start without it.

    Args:
        is_train: whether the training lookups are meant.

    Raises:
        EnvironmentError: ``init`` has not run.
    """
    ConfigInitializer.get_instance()
    if is_train:
        graph_state.of().lookups_merged = True
