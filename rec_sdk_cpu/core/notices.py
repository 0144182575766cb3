"""What a program does that passes here and means something else, or nothing, on a device: told once, in one line."""
import logging
from typing import Any, Dict

logger = logging.getLogger("rec_sdk_cpu")

# {what: line}, in order of appearance; the migration report lists them.
told: Dict[str, str] = {}


def tell(what: str, message: str, *values: Any) -> None:
    """Warns of a thing the first time it happens in this process.

    Args:
        what: names the thing; a second notice of the same name is not logged.
        message: printf-style line.
        *values: of the message.
    """
    if what not in told:
        told[what] = message % values
        logger.warning(told[what])
