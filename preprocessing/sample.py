"""The made-up data sets, by name."""
from typing import Callable, Dict, Optional, Tuple

from feature_specs.errors import ConfigError
from preprocessing import sample_census, sample_shop

_WRITERS: Dict[str, Tuple[Callable[[str, int, int, int], Tuple[str, str]], int, int]] = {
    "census": (sample_census.write_census, 60000, 20000), "shop": (sample_shop.write_shop, 40000, 10000)}
SAMPLES = tuple(_WRITERS)
#: What they are called.
SAMPLE_FILES = (sample_census.TRAIN_FILE, sample_census.TEST_FILE, sample_shop.TRAIN_FILE, sample_shop.TEST_FILE)
_MAX_ROWS = 10000000


def write_sample(name: str, directory: str, train_rows: Optional[int] = None, test_rows: Optional[int] = None,
                 seed: int = 2020) -> Tuple[str, str]:
    """Writes a training and a test file.

    Args:
        name: one of :data:`SAMPLES`.
        directory: existing folder.
        train_rows, test_rows: number of rows, each from 1 to 10,000,000; None: the sample's own.
        seed: from 0 to 2**31 - 1; the same seed gives the same bytes.

    Returns:
        Their paths.

    Raises:
        ConfigError: a number is out of range.
    """
    write, train_default, test_default = _WRITERS[name]
    train_rows = train_default if train_rows is None else train_rows
    test_rows = test_default if test_rows is None else test_rows
    for what, value, least, most in (("sample_train_rows", train_rows, 1, _MAX_ROWS),
                                     ("sample_test_rows", test_rows, 1, _MAX_ROWS),
                                     ("sample_seed", seed, 0, 2 ** 31 - 1)):
        if not least <= value <= most:
            raise ConfigError("%s %d: give a whole number from %d to %d" % (what, value, least, most))
    return write(directory, train_rows, test_rows, seed)
