import pytest

from tests.small_data import SMALL


def test_the_switches_of_the_original(sdk):
    from feature_specs.spec_list import FeatureSpecLists, create_feature_spec_list
    specs = create_feature_spec_list(SMALL, lookups=3, use_timestamp=True, access_threshold=5, eviction_threshold=60,
                                     faae_coefficient=2)
    assert [spec.is_timestamp for spec in specs] == [True, None, None, None]
    ids = specs[1:]
    assert {spec.table_name for spec in ids} == {"small_table"}
    assert {spec.index_key for spec in ids} == {"sparse_feature"}
    assert {(spec.access_threshold, spec.eviction_threshold, spec.faae_coefficient) for spec in ids} == {(5, 60, 2)}
    assert len({spec.name for spec in specs}) == 4
    holder = FeatureSpecLists()
    holder.put(specs, True)
    assert holder.get(True) == ids
    with pytest.raises(RuntimeError, match="has built no evaluation dataset"):
        holder.get(False)


def test_plain_list_has_no_thresholds(sdk):
    from feature_specs.spec_list import create_feature_spec_list
    (spec,) = create_feature_spec_list(SMALL)
    assert spec.access_threshold is None and spec.eviction_threshold is None and spec.is_timestamp is None


def test_eviction_needs_admission(sdk):
    from feature_specs.spec_list import create_feature_spec_list
    with pytest.raises(ValueError, match="Access_threshold should be configured before"):
        create_feature_spec_list(SMALL, eviction_threshold=60)
