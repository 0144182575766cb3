"""Stand-in for ``rec_sdk_common.log.log``: the logger that the SDK and its programs share (rec_sdk_api 12)."""
import logging
import os
from typing import Any

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_VARIABLES = ("RECSDK_LOG_LEVEL", "MXREC_LOG_LEVEL")


class LoggingProxy:
    """printf-style logging to standard error, at RECSDK_LOG_LEVEL, else MXREC_LOG_LEVEL (default INFO)."""

    _instance: logging.Logger

    @classmethod
    def set_instance(cls, log_level: str) -> None:
        """Sets the level.

        Raises:
            ValueError: no such level.
        """
        if log_level not in _LEVELS:
            raise ValueError("log level %r is not valid; choose from %s" % (log_level, ", ".join(_LEVELS)))
        logger = logging.getLogger("RecSDK")
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("[RecSDK][%(asctime)s] [%(levelname)s] %(message)s"))
            logger.addHandler(handler)
            logger.propagate = False
        logger.setLevel(log_level)
        cls._instance = logger

    @classmethod
    def debug(cls, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs at DEBUG."""
        cls._instance.debug(msg, *args, **kwargs)

    @classmethod
    def info(cls, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs at INFO."""
        cls._instance.info(msg, *args, **kwargs)

    @classmethod
    def warning(cls, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs at WARNING."""
        cls._instance.warning(msg, *args, **kwargs)

    @classmethod
    def error(cls, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs at ERROR."""
        cls._instance.error(msg, *args, **kwargs)

    @classmethod
    def exception(cls, msg: str, *args: Any, exc_info: bool = True, **kwargs: Any) -> None:
        """Logs at ERROR, with the exception at hand."""
        cls._instance.error(msg, *args, exc_info=exc_info, **kwargs)

    @classmethod
    def critical(cls, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs at CRITICAL."""
        cls._instance.critical(msg, *args, **kwargs)


LoggingProxy.set_instance(next((os.environ[name] for name in _VARIABLES if name in os.environ), "INFO"))
