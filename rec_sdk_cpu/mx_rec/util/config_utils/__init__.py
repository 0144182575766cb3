"""Stand-in for the package ``mx_rec.util.config_utils``."""
from rec_sdk_cpu.mx_rec.util.config_utils.train_param import TrainParamsConfig

__all__ = ["TrainParamsConfig"]
