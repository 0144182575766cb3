"""The FeatureSpec list of a dataset: what the Rec SDK's host pipeline is told about the ids of a batch."""
import dataclasses
from typing import List, Optional, Sequence

from mx_rec.core.asc.helper import FeatureSpec

from feature_specs.records import TIMESTAMP, table_keys


@dataclasses.dataclass
class FeatureSpecLists:
    """Hands FeatureSpec lists of the latest training and evaluation (or prediction) dataset from ``input_fn`` to
    ``model_fn``; None before such a dataset was built."""

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

    Returns:
        ``lookups`` specs per table, each of all keys of the table; before them the timestamp's, which admission needs.
    """
    specs = []
    thresholds = {}
    if admission is not None:
        specs.append(FeatureSpec(TIMESTAMP, index_key=TIMESTAMP, is_timestamp=True))
        thresholds = dataclasses.asdict(admission)
    for table in tables:
        for number in range(lookups):
            name = table_keys(table)
            specs.append(FeatureSpec(name if number == 0 else "%s_%d" % (name, number), table_name=table,
                                     index_key=name, **thresholds))
    return specs
