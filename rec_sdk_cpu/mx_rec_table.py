"""The real module names of ``mx_rec`` and ``rec_sdk_common`` that the stand-in provides, by SDK generation."""
from typing import Dict

_BOTH = (
    "mx_rec",
    "mx_rec.constants",
    "mx_rec.constants.constants",
    "mx_rec.core",
    "mx_rec.core.asc",
    "mx_rec.core.asc.feature_spec",
    "mx_rec.core.asc.helper",
    "mx_rec.core.asc.manager",
    "mx_rec.core.embedding",
    "mx_rec.core.feature_process",
    "mx_rec.graph",
    "mx_rec.graph.hooks",
    "mx_rec.graph.merge_lookup",
    "mx_rec.graph.modifier",
    "mx_rec.graph.patch",
    "mx_rec.optimizers",
    "mx_rec.optimizers.adagrad",
    "mx_rec.optimizers.adagrad_by_addr",
    "mx_rec.optimizers.base",
    "mx_rec.optimizers.ftrl",
    "mx_rec.optimizers.gradient_descent",
    "mx_rec.optimizers.gradient_descent_by_addr",
    "mx_rec.optimizers.lazy_adam",
    "mx_rec.optimizers.lazy_adam_by_addr",
    "mx_rec.saver",
    "mx_rec.saver.patch",
    "mx_rec.saver.saver",
    "mx_rec.saver.sparse",
    "mx_rec.util",
    "mx_rec.util.config_utils",
    "mx_rec.util.config_utils.train_param",
    "mx_rec.util.initialize",
    "mx_rec.util.ops",
    "mx_rec.util.variable",
)
_ONLY = {
    "G2": (
        "mx_rec.util.communication",
        "mx_rec.util.communication.hccl_ops",
        "mx_rec.util.log",
        "mx_rec.util.tf_version_adapter",
    ),
    "G3": (
        "rec_sdk_common",
        "rec_sdk_common.communication",
        "rec_sdk_common.communication.hccl",
        "rec_sdk_common.communication.hccl.hccl_info",
        "rec_sdk_common.log",
        "rec_sdk_common.log.log",
        "rec_sdk_common.util",
        "rec_sdk_common.util.tf_adapter",
    ),
}
GENERATIONS = tuple(sorted(_ONLY))

_G2_OPTION = "run with --generation G2, or install(generation=\"G2\")"
# Modules of one generation, and what stands in their place in the other.
_REPLACED = {
    "G3": {
        "mx_rec.util.communication": "rec_sdk_common.communication.hccl.hccl_info; " + _G2_OPTION,
        "mx_rec.util.log": "rec_sdk_common.log (from rec_sdk_common.log import logger); " + _G2_OPTION,
        "mx_rec.util.tf_version_adapter": "rec_sdk_common.util.tf_adapter; " + _G2_OPTION,
        "mx_rec.graph.acg_push_ops": "mx_rec.graph.hooks.LookupSubgraphSlicerHook and OrphanLookupKeySlicerHook",
    },
    "G2": {
        "mx_rec.graph.acg_push_ops": "mx_rec.graph.hooks, whose hooks the stand-in has in both generations",
        "rec_sdk_common": "mx_rec.util.communication.hccl_ops, mx_rec.util.tf_version_adapter and mx_rec.util.log",
    },
}
_OWN_ENGINE = ("it is the SDK's own machinery around its native library; the stand-in does the same work in "
               "TensorFlow ops")
# Modules of the SDK that are not built, and why.
_NOT_BUILT = {
    "mx_rec.core.asc.build_graph": _OWN_ENGINE,
    "mx_rec.core.asc.merge_table": _OWN_ENGINE,
    "mx_rec.core.asc.swap_args": _OWN_ENGINE,
    "mx_rec.core.emb": _OWN_ENGINE,
    "mx_rec.core.embedding_proxy": _OWN_ENGINE,
    "mx_rec.core.util": _OWN_ENGINE,
    "mx_rec.data": "use Dataset.eos_map, which is there once the stand-in is installed",
    "mx_rec.graph.constants": _OWN_ENGINE,
    "mx_rec.graph.slicers": _OWN_ENGINE,
    "mx_rec.graph.utils": _OWN_ENGINE,
    "mx_rec.saver.constants": _OWN_ENGINE,
    "mx_rec.saver.utils": _OWN_ENGINE,
    "mx_rec.saver.warm_start": "use tf.estimator.WarmStartSettings, which the stand-in serves",
    "mx_rec.util.atomic": _OWN_ENGINE,
    "mx_rec.util.framework_npu_env": "it prepares the device's environment, which a CPU has not",
    "mx_rec.util.global_env_conf": "the variables it reads tune the device's host process, which a CPU has not",
    "mx_rec.util.normalization": _OWN_ENGINE,
    "mx_rec.util.perf": _OWN_ENGINE,
    "mx_rec.validator": "the checks are made inside the calls that the validators decorate",
    "rec_sdk_common.communication.hccl.hccl_mgmt": "it reads rank tables, which a CPU has not",
    "rec_sdk_common.constants": _OWN_ENGINE,
    "rec_sdk_common.perf_factory": "it binds processes to cores of the device's host",
    "rec_sdk_common.validator": "the checks are made inside the calls that the validators decorate",
    "mxrec_pybind": "it is the SDK's native library",
}


def modules(generation: str) -> Dict[str, str]:
    """Returns {real module name: path of the module that stands in for it} of a generation."""
    return {name: "rec_sdk_cpu." + name for name in _BOTH + _ONLY[generation]}


def is_of_one_generation(name: str) -> bool:
    """Returns whether only one generation has a module."""
    return any(name in names for names in _ONLY.values())


def absent(generation: str) -> Dict[str, str]:
    """Returns {real module name: one line that says why the generation, or the stand-in, does not have it}."""
    lines = {name: "%s is not provided by the CPU stand-in: %s" % (name, reason) for name, reason in _NOT_BUILT.items()}
    for name, instead in _REPLACED[generation].items():
        line = "SDK generation %s has no %s; in its place: %s" % (generation, name, instead)
        # "from package import module" asks for the module by the package's own name.
        lines[name] = lines["rec_sdk_cpu." + name] = line
    return lines
