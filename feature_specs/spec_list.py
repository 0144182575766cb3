"""The FeatureSpec list of a dataset: what the Rec SDK's host pipeline is told about the ids of a batch."""
import dataclasses
from typing import List, Optional

from mx_rec.core.asc.helper import FeatureSpec

from feature_specs.dataset import SPARSE_FEATURE, TIMESTAMP, DatasetDefinition


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
        """Returns the id specs (no timestamp) of the latest dataset of that mode.

        Raises:
            RuntimeError: no such dataset was built.
        """
        specs = self.train if is_training else self.evaluate
        if specs is None:
            raise RuntimeError("input_fn has built no %s dataset in FeatureSpec mode"
                               % ("training" if is_training else "evaluation"))
        return [spec for spec in specs if not spec.is_timestamp]


def create_feature_spec_list(dataset: DatasetDefinition, lookups: int = 1, use_timestamp: bool = False,
                             access_threshold: Optional[int] = None, eviction_threshold: Optional[int] = None,
                             faae_coefficient: int = 1) -> List[FeatureSpec]:
    """Returns new FeatureSpecs for one dataset; call it once per dataset (rec_sdk_api 2.1, 11.10).

    Args:
        dataset: the dataset's definition; all its ids go to one table.
        lookups: how often the ids are looked up in that table.
        use_timestamp: adds the spec of the scalar timestamp feature.
        access_threshold: occurrences that admit an id; None switches admission off.
        eviction_threshold: seconds after which an unseen id is dropped; None switches eviction off.
        faae_coefficient: factor on the occurrences.

    Returns:
        ``lookups`` specs of the ids, before them the timestamp's where asked for.

    Raises:
        ValueError: an argument out of range, or eviction without admission.
    """
    specs = []
    if use_timestamp:
        specs.append(FeatureSpec(TIMESTAMP, index_key=TIMESTAMP, is_timestamp=True))
    for number in range(lookups):
        specs.append(FeatureSpec(
            SPARSE_FEATURE if number == 0 else "%s_%d" % (SPARSE_FEATURE, number),
            table_name=dataset.table_name, index_key=SPARSE_FEATURE, access_threshold=access_threshold,
            eviction_threshold=eviction_threshold, faae_coefficient=faae_coefficient))
    return specs
