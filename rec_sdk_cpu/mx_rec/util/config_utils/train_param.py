"""Stand-in for ``mx_rec.util.config_utils.train_param``."""
from rec_sdk_cpu.core.config import TrainParamsConfig

__all__ = ["TrainParamsConfig"]
