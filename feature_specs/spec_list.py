"""The FeatureSpec list of a dataset: what the Rec SDK's host pipeline is told about the ids of a batch."""
import dataclasses
from typing import Dict, List, Optional, Sequence

from mx_rec.core.asc.helper import FeatureSpec

from feature_specs.records import TIMESTAMP, table_keys


@dataclasses.dataclass(frozen=True)
class Admission:
    """Feature admission and eviction: keys need ``access_threshold`` occurrences, and ``eviction_threshold`` seconds
    without one take their row again (None: never)."""

    access_threshold: int
    eviction_threshold: Optional[int] = None


class FeatureSpecLists:
    """Makes FeatureSpecs, and hands those of the latest training and evaluation (or prediction) dataset from
    ``input_fn`` to ``model_fn``."""

    def __init__(self) -> None:
        self._latest: Dict[bool, List[FeatureSpec]] = {}

    def make(self, is_training: bool, tables: Sequence[str], lookups: int = 1,
             admission: Optional[Admission] = None) -> List[FeatureSpec]:
        """Returns new FeatureSpecs for one dataset; call it once per dataset (rec_sdk_api 2.1, 11.10).

        ``lookups`` specs per table, each of all keys of the table; before them the timestamp's, which admission needs.
        """
        specs = [FeatureSpec(TIMESTAMP, index_key=TIMESTAMP, is_timestamp=True)] if admission else []
        thresholds = dataclasses.asdict(admission) if admission else {}
        for table in tables:
            key = table_keys(table)
            specs += [FeatureSpec("%s_%d" % (key, number) if number else key, table_name=table, index_key=key,
                                  **thresholds) for number in range(lookups)]
        self._latest[is_training] = specs
        return specs

    def get(self, is_training: bool) -> List[FeatureSpec]:
        """Returns the specs of keys (no timestamp) of the latest dataset of that mode: the lookups of one table, then
        those of the next; RuntimeError where no such dataset was built."""
        if is_training not in self._latest:
            raise RuntimeError("input_fn has built no %s dataset in FeatureSpec mode"
                               % ("training" if is_training else "evaluation"))
        return [spec for spec in self._latest[is_training] if not spec.is_timestamp]
