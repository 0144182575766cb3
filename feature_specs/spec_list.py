"""The FeatureSpec list of a dataset: what the Rec SDK's host pipeline is told about the ids of a batch."""
import dataclasses
from typing import List, Optional, Sequence

from mx_rec.core.asc.helper import FeatureSpec

from feature_specs.records import TIMESTAMP, table_keys


@dataclasses.dataclass
class FeatureSpecLists:
    """Hands FeatureSpec lists from ``input_fn`` to ``model_fn``; a new pair for every graph.

    Attributes:
        train: lists of the training dataset, or None before it was built.
        evaluate: lists of the evaluation or prediction dataset, or None before it was built.
    """

    train: Optional[List[FeatureSpec]] = None
    evaluate: Optional[List[FeatureSpec]] = None

    def put(self, specs: List[FeatureSpec], is_training: bool) -> None:
        """Keeps the list of a dataset that was just built."""
        if is_training:
            self.train = specs
        else:
            self.evaluate = specs

    def get(self, is_training: bool) -> List[FeatureSpec]:
        """Returns the specs of keys (no timestamp) of the latest dataset of that mode: the lookups of one table, then
        those of the next.

        Raises:
            RuntimeError: no such dataset was built.
        """
        specs = self.train if is_training else self.evaluate
        if specs is None:
            raise RuntimeError("input_fn has built no %s dataset in FeatureSpec mode"
                               % ("training" if is_training else "evaluation"))
        return [spec for spec in specs if not spec.is_timestamp]


@dataclasses.dataclass(frozen=True)
class Admission:
    """Feature admission and eviction: keys need ``access_threshold`` occurrences, and ``eviction_threshold`` seconds
    without one take their row again (None: never)."""

    access_threshold: int
    eviction_threshold: Optional[int] = None


def create_feature_spec_list(tables: Sequence[str], lookups: int = 1,
                             admission: Optional[Admission] = None) -> List[FeatureSpec]:
    """Returns new FeatureSpecs for one dataset; call it once per dataset (rec_sdk_api 2.1, 11.10).

    Args:
        tables: names of the tables; all keys of a table are one spec.
        lookups: how often the keys are looked up.
        admission: admission and eviction, which need the timestamp's spec; None for neither.

    Returns:
        ``lookups`` specs per table, before them the timestamp's where it is needed.
    """
    specs = []
    thresholds = {}
    if admission is not None:
        specs.append(FeatureSpec(TIMESTAMP, index_key=TIMESTAMP, is_timestamp=True))
        thresholds = {"access_threshold": admission.access_threshold,
                      "eviction_threshold": admission.eviction_threshold}
    for table in tables:
        for number in range(lookups):
            name = table_keys(table)
            specs.append(FeatureSpec(name if number == 0 else "%s_%d" % (name, number), table_name=table,
                                     index_key=name, **thresholds))
    return specs
