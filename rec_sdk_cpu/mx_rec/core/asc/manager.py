"""Stand-in for ``mx_rec.core.asc.manager``: starting the host pipeline (rec_sdk_api 5.1)."""
from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core.config import ConfigInitializer

NO_TABLES = "table_info_list is empty!"


def start_asc_pipeline() -> None:
    """Starts the host pipeline; does nothing where it runs already.

    Raises:
        EnvironmentError: ``init`` has not run.
        RuntimeError: the graph has no table.
        ValueError: tables in device memory and tables in host memory are mixed.

    Source: rec_sdk_api 5.1.
    """
    config = ConfigInitializer.get_instance()
    state = graph_state.of()
    state.pipeline_started = True
    if config.hybrid_manager_config.asc_manager is not None:
        return
    if not state.tables:
        raise RuntimeError(NO_TABLES)
    if len({table.is_hbm for table in state.tables.values()}) > 1:
        raise ValueError("all tables must be HBM or all must be DDR/SSD; found %s" % {
            name: "HBM" if table.is_hbm else "DDR/SSD" for name, table in sorted(state.tables.items())})
    config.hybrid_manager_config.asc_manager = object()
