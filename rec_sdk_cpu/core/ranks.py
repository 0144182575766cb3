"""Rank identity: pure reads of OpenMPI's environment variables (rec_sdk_api 1.3)."""
import os

_LIMIT = 4095
# What Horovod's launcher sets, and the names by which the SDK and TF Adapter read the same numbers.
_ADOPTED = (("HOROVOD_RANK", ("OMPI_COMM_WORLD_RANK", "RANK_ID")),
            ("HOROVOD_SIZE", ("OMPI_COMM_WORLD_SIZE", "RANK_SIZE")),
            ("HOROVOD_LOCAL_RANK", ("OMPI_COMM_WORLD_LOCAL_RANK",)),
            ("HOROVOD_LOCAL_SIZE", ("OMPI_COMM_WORLD_LOCAL_SIZE",)))


def adopt_environment() -> None:
    """Gives a rank that Horovod's launcher started the variables that mpirun and an NPU host set."""
    for source, targets in _ADOPTED:
        if source in os.environ:
            os.environ.update({target: os.environ[source] for target in targets})


def several() -> bool:
    """Returns whether this process is one of several ranks; False where nothing announces any."""
    return os.environ.get("OMPI_COMM_WORLD_SIZE", "1") != "1" and get_rank_size() > 1


def get_rank_id() -> int:
    """Returns this process's rank, 0-based.

    Raises:
        RuntimeError: OMPI_COMM_WORLD_RANK is not set.
        ValueError: it is not a number in [0, 4095].
    """
    return _read("OMPI_COMM_WORLD_RANK", "RANK_ID", 0)


def get_rank_size() -> int:
    """Returns the number of ranks.

    Raises:
        RuntimeError: OMPI_COMM_WORLD_SIZE is not set.
        ValueError: it is not a number in [1, 4095].
    """
    return _read("OMPI_COMM_WORLD_SIZE", "RANK_SIZE", 1)


def get_local_rank_size() -> int:
    """Returns the number of ranks on this host.

    Raises:
        RuntimeError: OMPI_COMM_WORLD_LOCAL_SIZE is not set.
        ValueError: it is not a number in [1, 4095].
    """
    return _read("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_RANK_SIZE", 1)


def get_device_id() -> int:
    """Returns the logical device of this rank: on a CPU, the rank's number on its host."""
    return get_rank_id() % get_local_rank_size()


def _read(variable: str, sdk_name: str, minimum: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        raise RuntimeError("Environment variable %s has not been exported, please init mpi/hccl first "
                           "(the value is read from %s, which mpirun sets)" % (sdk_name, variable))
    if not (text.isascii() and text.isdigit()) or not minimum <= int(text) <= _LIMIT:
        raise ValueError("environment variable %s must be a number in [%d, %d], found %r"
                         % (variable, minimum, _LIMIT, text))
    return int(text)
