"""The entry's choice of device, and what follows from it; the only place that installs the CPU stand-in."""
import importlib.util
import logging
import os
from typing import List

from estimator_app.training import phases as eval_schedule
from feature_specs.errors import ConfigError

AUTO, CPU, NPU = "auto", "cpu", "npu"
_ASCEND_PACKAGES = ("mx_rec", "npu_bridge")

logger = logging.getLogger("estimator_app")


def resolve_device(requested: str) -> str:
    """Chooses the device; imports neither TensorFlow nor an SDK.

    Args:
        requested: ``auto``, ``cpu`` or ``npu``.

    Returns:
        ``cpu`` or ``npu``; ``auto`` is the NPU where the Ascend packages can be imported.

    Raises:
        ConfigError: ``npu`` was asked for and the Ascend packages are not here.
    """
    missing = _missing_packages()
    if requested == NPU and missing:
        raise ConfigError("device npu: the packages %s cannot be imported by this Python; install the Rec SDK and "
                          "the TF Adapter, or use --device cpu" % " and ".join(missing))
    if requested != AUTO:
        return requested
    device = CPU if missing else NPU
    logger.info("device %s: %s", device, "%s cannot be imported" % " and ".join(missing) if missing
                else "mx_rec and npu_bridge can be imported")
    return device


def prepare_device(requested: str) -> str:
    """Makes ``mx_rec`` and ``npu_bridge`` importable: Ascend's packages, or the CPU stand-in in their place.

    Args:
        requested: ``auto``, ``cpu`` or ``npu``.

    Returns:
        ``cpu`` or ``npu``.

    Raises:
        ConfigError: ``npu`` was asked for and the Ascend packages are not here.
    """
    device = resolve_device(requested)
    if device == CPU:
        _install_stand_in(force=not _missing_packages())
    return device


def resolve_eval_mode(requested: str, device: str, evaluations: int) -> str:
    """Chooses how training and evaluation take turns.

    Args:
        requested: ``auto``, ``train_and_evaluate`` or ``alternate``.
        device: ``cpu`` or ``npu``.
        evaluations: how many evaluations the rest of the training has.

    Returns:
        ``train_and_evaluate`` or ``alternate``. ``auto`` is the former on a CPU and the latter on NPUs.

    Raises:
        ConfigError: the mode is unknown, or ``train_and_evaluate`` would evaluate more than once on NPUs, which the
            SDK's documentation excludes (rec_sdk_api 5.2).
    """
    if requested not in eval_schedule.EVAL_MODES:
        raise ConfigError("--eval_mode %r is not known; choose from %s"
                          % (requested, ", ".join(eval_schedule.EVAL_MODES)))
    if requested == eval_schedule.AUTO:
        return eval_schedule.ALTERNATE if device == NPU else eval_schedule.TRAIN_AND_EVALUATE
    if requested == eval_schedule.TRAIN_AND_EVALUATE and device == NPU and evaluations > 1:
        raise ConfigError("--eval_mode train_and_evaluate would evaluate %d times in one process, which the Rec SDK "
                          "does not support on NPUs; use --eval_mode alternate, or an --eval_interval of at least the "
                          "whole training for one evaluation at its end" % evaluations)
    return requested


def _missing_packages() -> List[str]:
    return [name for name in _ASCEND_PACKAGES if importlib.util.find_spec(name) is None]


def _install_stand_in(force: bool) -> None:
    import rec_sdk_cpu
    # The SDK reads its rank from OpenMPI's variables and TF Adapter its job from JOB_ID; on a CPU there is one rank.
    for variable, value in (("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1"),
                            ("OMPI_COMM_WORLD_LOCAL_SIZE", "1"), ("JOB_ID", "10086")):
        os.environ.setdefault(variable, value)
    rec_sdk_cpu.install(force=force)
