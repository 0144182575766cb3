"""The entry's choice of device, and what follows from it; the only module of the app that knows the CPU stand-in."""
import importlib.util
import json
import logging
import os
from typing import List, Mapping

from estimator_app.config import AUTO, CPU, NPU
from feature_specs.checks import is_digits, refuse
from feature_specs.errors import ConfigError

_ASCEND_PACKAGES = ("mx_rec", "npu_bridge")
# From OpenMPI's variables the SDK reads its rank; without a launch there is one.
_ONE_RANK = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}

logger = logging.getLogger("estimator_app")


def resolve_device(requested: str) -> str:
    """Returns ``cpu`` or ``npu``; ``auto`` is the NPU where the Ascend packages could be imported, which is not done.

    Raises:
        ConfigError: ``npu`` was asked for and the Ascend packages are not here.
    """
    missing = _missing_packages()
    refuse(requested == NPU and missing,
           "device npu: the packages %s cannot be imported by this Python; install the Rec SDK and the TF Adapter, or "
           "use --device cpu", " and ".join(missing))
    if requested != AUTO:
        return requested
    device = CPU if missing else NPU
    logger.info("device %s: %s", device, "%s cannot be imported" % " and ".join(missing) if missing
                else "mx_rec and npu_bridge can be imported")
    return device


def prepare_device(device: str) -> None:
    """Makes ``mx_rec`` and ``npu_bridge`` importable: Ascend's packages, or on a CPU the stand-in in their place."""
    _check_environment(os.environ, device)
    if device == NPU:
        return
    import rec_sdk_cpu
    for variable, value in {**_ONE_RANK, "JOB_ID": "10086"}.items():  # TF Adapter reads JOB_ID
        os.environ.setdefault(variable, value)
    rec_sdk_cpu.install(force=not _missing_packages())
    from estimator_app.model.pooling import Seam
    from rec_sdk_cpu.core.lookup import pooled_product
    Seam.pool = staticmethod(pooled_product)


def _check_environment(environment: Mapping[str, str], device: str) -> None:
    """Refuses (ConfigError) variables that TensorFlow or the SDK would stumble over later."""
    text = environment.get("TF_CONFIG", "")
    try:
        given = dict(json.loads(text).items()) if text else {}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError("environment variable TF_CONFIG does not hold a JSON object (%s); unset it"
                          % error) from error
    refuse(given, "environment variable TF_CONFIG names %s, for other kinds of distribution than this program's; unset "
           "it", ", ".join(sorted(given)))
    if device == NPU:
        return
    for name in (*_ONE_RANK, "RANK_ID", "RANK_SIZE", "HOROVOD_RANK", "HOROVOD_SIZE"):
        value = environment.get(name, "0")
        refuse(not is_digits(value), "environment variable %s=%r is not a whole number; unset it", name, value)
    size, rank = environment.get("OMPI_COMM_WORLD_SIZE", "1"), environment.get("OMPI_COMM_WORLD_RANK")
    refuse(size == "1" and environment.get("RANK_SIZE", "1") not in ("0", "1"),
           "environment variable RANK_SIZE=%s is set, and this process is not a rank of a launch; unset it, or start "
           "ranks with train --ranks", environment.get("RANK_SIZE"))
    refuse(int(size) > 1 and rank is None,
           "environment variable OMPI_COMM_WORLD_SIZE=%s is set, OMPI_COMM_WORLD_RANK is not: this process is not a "
           "rank of a launch; unset it", size)
    refuse(int(rank or "0") >= max(1, int(size)),
           "environment variable OMPI_COMM_WORLD_RANK=%s is not below OMPI_COMM_WORLD_SIZE=%s; unset both", rank, size)


def _missing_packages() -> List[str]:
    return [name for name in _ASCEND_PACKAGES if importlib.util.find_spec(name) is None]
