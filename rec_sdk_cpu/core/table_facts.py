"""What programs read off a table besides its rows: the properties that the SDK's tables have (rec_sdk_api 3.1)."""
from typing import Any, Dict, List

import tensorflow as tf


class TableFacts:
    """Read-only facts; subclasses set the attributes that they come from."""

    sizes: Any
    emb_size: int
    table_name: str
    gradient_enabled: bool
    emb_initializer: Any
    init_param: float
    multi_lookup_times: Dict[bool, int]
    _rank_size: int

    @property
    def embedding_size(self) -> tf.TensorShape:
        """Shape of a row, [dim]."""
        return tf.TensorShape([self.emb_size])

    @property
    def rank_size(self) -> int:
        """Ranks that share the rows."""
        return self._rank_size

    @property
    def ssd_vocabulary_size(self) -> int:
        """Rows on disk, of all ranks."""
        return self.sizes.ssd

    @property
    def slice_ssd_vocabulary_size(self) -> int:
        """Rows on disk, of one rank."""
        return -(-self.sizes.ssd // self._rank_size)

    @property
    def is_grad(self) -> bool:
        """Whether any training lookup passes gradients to the table."""
        return self.gradient_enabled

    @property
    def padding_keys(self) -> List[int]:
        """Padding keys, which the stand-in does not have."""
        return []

    @property
    def padding_keys_mask(self) -> bool:
        """Whether padding keys are masked."""
        return False

    def get_default_lookup_name(self) -> str:
        """Returns the name of the next lookup that is given none."""
        return "sparse_lookup_%d" % sum(self.multi_lookup_times.values())
