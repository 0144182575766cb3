"""The FeatureSpecs of a dataset: one per table and lookup, with the thresholds of admission."""
import pytest


def specs(*arguments):
    from feature_specs.spec_list import FeatureSpecLists
    return FeatureSpecLists().make(True, *arguments)


def test_one_spec_per_table_and_lookup(sdk):
    found = specs(["users", "items"], 2)
    assert [(spec.table_name, spec.index_key) for spec in found] == 2 * [("users", "sparse_feature_users")] + 2 * [
        ("items", "sparse_feature_items")]
    assert len({spec.name for spec in found}) == 4
    assert {(spec.access_threshold, spec.eviction_threshold, spec.is_timestamp) for spec in found} == {
        (None, None, None)}


def test_admission_puts_the_timestamp_first(sdk):
    from feature_specs.spec_list import Admission, FeatureSpecLists
    found = specs(["users", "items"], 1, Admission(5, 60))
    assert [spec.is_timestamp for spec in found] == [True, None, None]
    assert {(spec.access_threshold, spec.eviction_threshold) for spec in found[1:]} == {(5, 60)}
    assert {spec.eviction_threshold for spec in specs(["users"], 1, Admission(5))[1:]} == {None}
    lists = FeatureSpecLists()
    assert lists.make(True, ["users", "items"], 1, Admission(5, 60))[1:] == lists.get(True)
    with pytest.raises(RuntimeError, match="has built no evaluation dataset"):
        lists.get(False)
