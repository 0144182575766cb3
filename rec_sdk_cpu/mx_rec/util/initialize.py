"""Stand-in for ``mx_rec.util.initialize`` (rec_sdk_api 1)."""
from rec_sdk_cpu.core.config import ConfigInitializer, init, terminate_config_initializer

__all__ = ["ConfigInitializer", "init", "terminate_config_initializer"]
