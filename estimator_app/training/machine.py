"""Settings that follow from what a machine offers."""
from preprocessing.cores import usable_cores

_BATCHES_PER_THREAD, _MOST_BATCHES = 4, 64
_SMALL_BATCH = 64


def threads(configured: int) -> int:
    """Returns the number of threads: as configured, or with 0 one per usable core."""
    return configured or usable_cores()


def intra_op_threads(configured: int, batch_size: int) -> int:
    """Returns the threads that share one op: as configured; with 0 one for small batches, else one per core.

    At small batches every op is over sooner than another thread wakes up.

    Args:
        configured: the setting.
        batch_size: rows per training step.
    """
    return configured or (1 if batch_size <= _SMALL_BATCH else usable_cores())


def prefetch(configured: int, thread_count: int) -> int:
    """Returns the batches prepared ahead: as configured, or with 0 four per thread, at most 64.

    Args:
        configured: the setting.
        thread_count: threads that prepare batches.
    """
    return configured or min(_MOST_BATCHES, _BATCHES_PER_THREAD * thread_count)
