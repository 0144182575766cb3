"""The modes in which training on several ranks is compared with one rank; every rank builds the same."""
from typing import Any, Dict, NamedTuple, Optional, Tuple

BATCH = 16
IDS = 3
KEYS = 60
STEPS = 30


class Case(NamedTuple):
    """One way to train.

    Attributes:
        optimizer: module below ``mx_rec.optimizers`` and its arguments.
        settings: of ``init``.
        table: further arguments of ``create_table``; sizes are over all ranks.
        feature_specs: whether ids come as FeatureSpecs instead of tensors.
        send_count: of the lookups.
        access, eviction, coefficient: admission; ids are evicted every tenth step.
        lookups: of the first table.
        tables: number of tables; the second has another dim.
        pooled: whether ids are summed by the pooled product.
        start: initial value of the rows; None for a truncated normal distribution.
    """

    optimizer: Tuple[str, Dict[str, Any]] = ("lazy_adam", {"learning_rate": 0.05})
    settings: Dict[str, Any] = {}
    table: Dict[str, Any] = {}
    feature_specs: bool = False
    send_count: Optional[int] = None
    access: Optional[int] = None
    eviction: Optional[int] = None
    coefficient: int = 1
    lookups: int = 1
    tables: int = 1
    pooled: bool = False
    start: Optional[float] = 0.1


STATIC = {"use_dynamic": False}
EXPANSION = {"use_dynamic_expansion": True}
DIVIDED = {"all2all_gradients_op": "sum_gradients_and_div_by_ranksize"}
DDR = {"host_vocabulary_size": 400}
# Static mode wants send_count rows for every rank in each slice (rec_sdk_api 3.2).
SSD = {"device_vocabulary_size": 800, "host_vocabulary_size": 800, "ssd_vocabulary_size": 400}
SGD = ("gradient_descent", {"learning_rate": 0.1})

TRAINING = {
    "hbm": Case(),
    "hbm_divided": Case(table=DIVIDED),
    "hbm_specs": Case(feature_specs=True, table=DIVIDED),
    "hbm_pooled": Case(pooled=True, table=DIVIDED),
    "hbm_static": Case(settings=STATIC, send_count=BATCH * IDS, optimizer=("ftrl", {"learning_rate": 0.05})),
    "hbm_static_specs": Case(settings=STATIC, send_count=BATCH * IDS, feature_specs=True,
                             optimizer=("adagrad", {"learning_rate": 0.05})),
    "ddr": Case(table=DDR),
    "ddr_divided": Case(table=dict(DDR, **DIVIDED), optimizer=("ftrl", {"learning_rate": 0.05})),
    "ssd_static": Case(settings=STATIC, send_count=BATCH * IDS, table=SSD, optimizer=SGD),
    "expansion": Case(settings=EXPANSION, optimizer=("lazy_adam_by_addr", {"learning_rate": 0.05})),
    "expansion_specs": Case(settings=EXPANSION, feature_specs=True, table=DIVIDED,
                            optimizer=("adagrad_by_addr", {"learning_rate": 0.05})),
    "expansion_sgd": Case(settings=EXPANSION, optimizer=("gradient_descent_by_addr", {"learning_rate": 0.1})),
    "weight_decay": Case(optimizer=("gradient_descent", {"learning_rate": 0.1, "weight_decay": 0.01})),
    "two_lookups_two_tables": Case(lookups=2, tables=2, table=DIVIDED),
    "expansion_two_lookups": Case(lookups=2, tables=2, settings=EXPANSION,
                                  optimizer=("lazy_adam_by_addr", {"learning_rate": 0.05})),
    "admission": Case(access=4),
    "admission_specs": Case(access=12, coefficient=3, feature_specs=True, table=DIVIDED),
    "admission_two_lookups": Case(access=5, lookups=2),
    "admission_ddr": Case(access=4, table=DDR, optimizer=SGD),
    "admission_expansion": Case(access=4, settings=EXPANSION,
                                optimizer=("lazy_adam_by_addr", {"learning_rate": 0.05})),
    # Freed rows keep the optimizer's states, so that those depend on row numbers: an optimizer without states.
    "eviction": Case(access=2, eviction=6, optimizer=SGD),
    "eviction_ddr": Case(access=1, eviction=4, table=DDR, optimizer=SGD),
    "dp": Case(table={"is_dp": True}),
    "dp_ddr": Case(table=dict(DDR, is_dp=True), lookups=2),
    "dp_expansion": Case(table={"is_dp": True}, settings=EXPANSION,
                         optimizer=("lazy_adam_by_addr", {"learning_rate": 0.05})),
    "dp_admission": Case(table={"is_dp": True}, access=4, eviction=6, optimizer=SGD),
}

# Trained on one rank first, and then carried from one number of ranks to the next.
MOVED = {
    "moved_hbm": Case(start=None, table=DIVIDED),
    "moved_ddr": Case(start=None, table=DDR, access=3, eviction=9),
    "moved_expansion": Case(start=None, settings=EXPANSION, tables=2,
                            optimizer=("adagrad_by_addr", {"learning_rate": 0.05})),
    # Its accumulator is a variable of the TensorFlow checkpoint, by row number.
    "moved_adagrad": Case(start=None, optimizer=("adagrad", {"learning_rate": 0.05})),
    "moved_dp": Case(start=None, table={"is_dp": True}),
}
