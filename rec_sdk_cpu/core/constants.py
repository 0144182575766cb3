"""Names and limits of the SDK (rec_sdk_api 6, 12); registered as ``mx_rec.constants.constants``."""
import enum
import os
from typing import Any

ASCEND_GLOBAL_HASHTABLE_COLLECTION = "ASCEND_GLOBAL_HASHTABLE_COLLECTION"
ASCEND_CUTTING_POINT_INITIALIZER = "ASCEND_CUTTING_POINT_INITIALIZER"
ASCEND_SPARSE_LOOKUP_ENTRANCE = "ASCEND_SPARSE_LOOKUP_ENTRANCE"
ASCEND_SPARSE_LOOKUP_ID_OFFSET = "ASCEND_SPARSE_LOOKUP_ID_OFFSET"
ASCEND_SPARSE_LOOKUP_LOCAL_EMB = "ASCEND_SPARSE_LOOKUP_LOCAL_EMB"
ASCEND_TIMESTAMP = "ASCEND_TIMESTAMP"
ASCEND_TABLE_NAME_MUST_CONTAIN = None
TRAIN_CHANNEL_ID = 0
EVAL_CHANNEL_ID = 1
MULTI_LOOKUP_TIMES = 128
DEFAULT_EVICT_TIME_INTERVAL = 86400
MAX_VOCABULARY_SIZE = 10 ** 9
MAX_DEVICE_VOCABULARY_SIZE = 10 ** 9
MAX_WHILE_SIZE = 800
DEFAULT_HD_CHANNEL_SIZE, MIN_HD_CHANNEL_SIZE, MAX_HD_CHANNEL_SIZE = 40, 2, 8192
DEFAULT_CM_WORKER_SIZE, MIN_CM_WORKER_SIZE, MAX_CM_WORKER_SIZE = 0, 0, 512
DEFAULT_KP_THREAD_NUM, MIN_KP_THREAD_NUM, MAX_KP_THREAD_NUM = 6, 1, 10
DEFAULT_FAST_UNIQUE_THREAD_NUM, MIN_FAST_UNIQUE_THREAD_NUM, MAX_FAST_UNIQUE_THREAD_NUM = 8, 1, 8
DEFAULT_HOT_EMB_UPDATE_STEP, MIN_HOT_EMB_UPDATE_STEP, MAX_HOT_EMB_UPDATE_STEP = 1000, 1, 1000
SAVE_FILE_MODE = 0o640
SAVE_DIR_MODE = 0o750
SAVE_FILE_FLAG = os.O_WRONLY | os.O_CREAT
BASE_MODEL = "base"
DELTA_MODEL = "delta"
HDFS_FILE_PREFIX = ["viewfs://", "hdfs://"]
LIBREC_TF_NPU_OPS_SO = "librecsdk_tf_npu_ops.so"
LIBREC_TF_REC_V1_CPU_SO = "librecsdk_tf_rec_v1_cpu_ops.so"
# The name of an intermediate version, which the newest public demos import.
LIBREC_CPU_SO = LIBREC_TF_REC_V1_CPU_SO
LIBREC_EOS_OPS_SO = "librec_eos_ops.so"


class BaseEnum(enum.Enum):
    """An enum whose members are found by their values."""

    @classmethod
    def mapping(cls, key: Any) -> Any:
        """Returns the member whose value equals a key, or the value of a key that is a BaseEnum.

        Raises:
            KeyError: no member has that value.
        """
        value = key.value if isinstance(key, BaseEnum) else key
        for member in cls:
            if member.value == value:
                return member
        raise KeyError("%s has no member of value %r (%s); choose from %s"
                       % (cls.__name__, key, type(key).__name__, [member.value for member in cls]))


class All2allGradientsOp(BaseEnum):
    """How gradients of several ranks for one key are combined."""

    SUM_GRADIENTS = "sum_gradients"
    SUM_GRADIENTS_AND_DIV_BY_RANKSIZE = "sum_gradients_and_div_by_ranksize"


class Flag(enum.Enum):
    """A switch in an environment variable."""

    TRUE = "1"
    FALSE = "0"


class SsdCompactLevel(enum.Enum):
    """How far tables on disk are compacted when they are saved."""

    NO_COMPACT = 0
    PARTIAL_COMPACT = 1
    FULL_COMPACT = 2


class DataName(enum.Enum):
    """Names of the parts of a saved table."""

    KEY = "key"
    EMBEDDING = "embedding"
    FEATURE_MAPPING = "feature_mapping"
    OFFSET = "offset"
    THRESHOLD = "threshold"
    VALID_LEN = "valid_len"
    VALID_BUCKET_NUM = "valid_bucket_num"


class DataAttr(enum.Enum):
    """Names of the attributes of a saved part."""

    SHAPE = "shape"
    DATATYPE = "data_type"


class OptimizerType(enum.Enum):
    """Optimizers with states that the host knows by name."""

    LAZY_ADAM = "LazyAdam"
    SGD = "SGD"


class RecCPPLogLevel(enum.Enum):
    """Log levels of the native library."""

    TRACE = "-2"
    DEBUG = "-1"
    INFO = "0"
    WARN = "1"
    ERROR = "2"
