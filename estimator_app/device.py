"""The entry's choice of device; the only place that installs the CPU stand-in."""
import importlib.util
import logging
import os

from feature_specs.errors import ConfigError

CPU, NPU = "cpu", "npu"
_ASCEND_PACKAGES = ("mx_rec", "npu_bridge")

logger = logging.getLogger("estimator_app")


def prepare_device(requested: str) -> str:
    """Makes ``mx_rec`` and ``npu_bridge`` importable: Ascend's packages, or the CPU stand-in in their place.

    Args:
        requested: ``auto``, ``cpu`` or ``npu``.

    Returns:
        ``cpu`` or ``npu``.

    Raises:
        ConfigError: ``npu`` was asked for and the Ascend packages are not here.
    """
    missing = [name for name in _ASCEND_PACKAGES if importlib.util.find_spec(name) is None]
    if requested == NPU and missing:
        raise ConfigError("device npu: the packages %s cannot be imported by this Python; install the Rec SDK and "
                          "the TF Adapter, or use --device cpu" % " and ".join(missing))
    device = requested
    if requested == "auto":
        device = CPU if missing else NPU
        logger.info("device %s: %s", device, "%s cannot be imported" % " and ".join(missing) if missing
                    else "mx_rec and npu_bridge can be imported")
    if device == CPU:
        _install_stand_in(force=not missing)
    return device


def _install_stand_in(force: bool) -> None:
    import rec_sdk_cpu
    # The SDK reads its rank from OpenMPI's variables and TF Adapter its job from JOB_ID; on a CPU there is one rank.
    for variable, value in (("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1"),
                            ("OMPI_COMM_WORLD_LOCAL_SIZE", "1"), ("JOB_ID", "10086")):
        os.environ.setdefault(variable, value)
    rec_sdk_cpu.install(force=force)
