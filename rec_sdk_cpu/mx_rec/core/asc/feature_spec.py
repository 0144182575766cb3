"""Stand-in for ``mx_rec.core.asc.feature_spec`` (rec_sdk_api 2.1)."""
import itertools
from typing import Any, List, Optional, Tuple, Union

import tensorflow as tf

from rec_sdk_cpu.core import history
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.table import fix_table_name
from rec_sdk_cpu.core.validator import MAX_INT32, AnyOf, Bool, Int, Text, checked

_counter = itertools.count()
EVICTION_WITHOUT_ADMISSION = "Access_threshold should be configured before eviction_threshold."


class FeatureSpec:
    """One id feature of a batch, for lookups that go through the dataset's insert function.

    Attributes:
        name: the given name with a process-wide number appended.
        table_name: table that the ids go to.
        index_key: key (dict batch) or position (tuple batch) of the id tensor.
        access_threshold, eviction_threshold, faae_coefficient: admission and eviction, or None.
        is_timestamp: True for the timestamp feature, else None.
        timestamp_key: key of the batch's timestamp, or None.
        dims, feat_cnt, batch_size, split: shape facts that the insert function found.
    """

    @checked(
        Text("name", 1, 255), Text("table_name", 1, 255, optional=True),
        AnyOf("index_key", (Int("index_key", 0, 255), Text("index_key", 1, 255)), optional=True),
        Int("access_threshold", -1, MAX_INT32, optional=True), Int("eviction_threshold", -1, MAX_INT32, optional=True),
        Bool("is_timestamp", optional=True), Int("batch_size", 1, MAX_INT32, optional=True),
        Int("faae_coefficient", 1, MAX_INT32))
    def __init__(self, name: str, table_name: Optional[str] = None, index_key: Union[None, int, str] = None,
                 access_threshold: Optional[int] = None, eviction_threshold: Optional[int] = None,
                 is_timestamp: Optional[bool] = None, batch_size: Optional[int] = None,
                 faae_coefficient: Optional[int] = 1):
        ConfigInitializer.get_instance()
        if eviction_threshold is not None and access_threshold is None:
            raise ValueError(EVICTION_WITHOUT_ADMISSION)
        self.name = "%s_%d" % (name, next(_counter))
        self.table_name = fix_table_name(table_name if table_name is not None else name)
        self.index_key: Any = index_key if index_key is not None else name
        self.access_threshold = access_threshold
        self.eviction_threshold = eviction_threshold
        self.is_timestamp = is_timestamp
        self.batch_size = batch_size
        self.faae_coefficient = faae_coefficient
        self.dims: Optional[List[int]] = None
        self.feat_cnt: Optional[int] = None
        self.split: Union[None, int, tf.Tensor] = None
        self.initialized_modes: Tuple[bool, ...] = ()
        self.element_keys: Tuple[str, ...] = ()
        self.timestamp_key: Any = None

    def insert(self, ids: tf.Tensor, is_training: bool) -> tf.Tensor:
        """Notes the id tensor's shape and returns the ids as the host pipeline gets them.

        Args:
            ids: integer tensor of the batch.
            is_training: channel of the dataset.

        Returns:
            int64 [number of ids].

        Raises:
            ValueError: static mode and the shape is not fully known, is a scalar, or differs between train and eval;
                ``is_timestamp`` is False; or thresholds that the host refuses.
        """
        history.thresholds(self.table_name, self.access_threshold, self.eviction_threshold)
        if self.is_timestamp is not None:
            raise ValueError("FeatureSpec %s: is_timestamp must be None for a feature of ids, given %r"
                             % (self.name, self.is_timestamp))
        if ConfigInitializer.get_instance().use_static:
            if not ids.shape.is_fully_defined() or ids.shape.rank == 0:
                raise ValueError("FeatureSpec %s: static mode needs a fully defined shape of rank >= 1, found %s; "
                                 "batch with drop_remainder=True" % (self.name, ids.shape))
            dims = ids.shape.as_list()
            if self.dims is not None and self.dims != dims:
                raise ValueError("FeatureSpec %s: static mode needs one shape in train and eval, found %s and %s"
                                 % (self.name, self.dims, dims))
            self.dims = dims
            self.batch_size = int(dims[0])
            self.feat_cnt = int(ids.shape[1:].num_elements())
            self.split = self.batch_size * self.feat_cnt
        else:
            self.feat_cnt = 1
            self.split = tf.size(ids)
        self.initialized_modes += (is_training,)
        return tf.reshape(tf.cast(ids, tf.int64), [-1], name="reshape_%s" % self.name)

    def insert_timestamp(self, timestamp: tf.Tensor, is_training: bool) -> None:
        """Checks the timestamp feature.

        Raises:
            ValueError: it is not a scalar.
            EnvironmentError: a second training dataset with a timestamp in this process.
        """
        config = ConfigInitializer.get_instance()
        if is_training and config.timestamp_traced:
            raise OSError("FeatureSpec %s: this process has a training dataset with a timestamp already; the SDK "
                          "allows one" % self.name)
        if timestamp.shape.rank != 0:
            raise ValueError("FeatureSpec %s: the timestamp must be a scalar, found shape %s"
                             % (self.name, timestamp.shape))
        config.timestamp_traced = config.timestamp_traced or is_training
        self.initialized_modes += (is_training,)
