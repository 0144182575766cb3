"""Stand-in for the package ``mx_rec.core.asc``."""
from rec_sdk_cpu.mx_rec.core.asc.feature_spec import FeatureSpec
from rec_sdk_cpu.mx_rec.core.asc.helper import get_asc_insert_func
from rec_sdk_cpu.mx_rec.core.asc.manager import start_asc_pipeline

__all__ = ["FeatureSpec", "get_asc_insert_func", "start_asc_pipeline"]
