"""What would differ on a device, of the things that a program used: one line each."""
import os
from typing import Any, Callable, List, NamedTuple, Optional

from rec_sdk_cpu.core import notices
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.trace import pipeline, races
from rec_sdk_cpu.trace.recorder import Recorder, find

_HALF = ("allow_mix_precision", "allow_fp32_to_fp16", "force_fp16", "mixed_float16", "fp16", "mixed_bfloat16")


class Rule(NamedTuple):
    """A difference.

    Attributes:
        used: tells from the recording whether the program meets it; what it returns fills the line.
        line: printf-style text.
    """

    used: Callable[[Recorder], Any]
    line: str


def find_all(recorder: Recorder) -> List[str]:
    """Returns the lines of the differences that a program meets."""
    lines = []
    for rule in _RULES:
        found = rule.used(recorder)
        if found:
            lines.append(rule.line % (found,) if "%s" in rule.line else rule.line)
    return lines + sorted(notices.told.values())


def _called(*names: str) -> Callable[[Recorder], bool]:
    return lambda recorder: bool(recorder.of(*names))


def _given(argument: str, *names: str) -> Callable[[Recorder], Optional[str]]:
    return lambda recorder: find(recorder.of(*names), argument)


def _racing(recorder: Recorder) -> str:
    return ", ".join(races.find(recorder.sparse_gradients))


def _random_rows(recorder: Recorder) -> str:
    kinds = {value for call in recorder.of("create_table") for value in call.values.get("emb_initializer", ())}
    return ", ".join(sorted(kind for kind in kinds if "onst" not in kind and "ero" not in kind))


def _loops(recorder: Recorder) -> Optional[str]:
    calls = recorder.of("set_iteration_per_loop", "NPURunConfig", "SetIterationsVarHook")
    values = [value for call in calls for value in call.values.get("iterations_per_loop", ())]
    return next((value for value in values if value not in ("1", "None")), None)


def _half_precision(recorder: Recorder) -> Optional[str]:
    values = [value for name in ("precision_mode", "precision_mode_v2")
              for value in [find(recorder.of("NPURunConfig"), name)] + recorder.session_options.get(name, [])]
    return next((value for value in values if value and value.strip("'") in _HALF), None)


def _not_started(recorder: Recorder) -> bool:
    return _looks_specs_up(recorder) and not recorder.of("start_asc_pipeline", "GraphModifierHook")


def _endless(recorder: Recorder) -> bool:
    return _looks_specs_up(recorder) and not recorder.of("Dataset.eos_map")


def _looks_specs_up(recorder: Recorder) -> bool:
    return any("FeatureSpec" in call.values.get("ids", ()) for call in recorder.of("sparse_lookup"))


def _no_prefetch(recorder: Recorder) -> str:
    return ", ".join(pipeline.last_stages(recorder.looked_up))


def _ids_of_strings(recorder: Recorder) -> str:
    sliced = recorder.of("LookupSubgraphSlicerHook")
    return "" if sliced else ", ".join(pipeline.string_operations(recorder.looked_up))


def _ids_of_no_dataset(recorder: Recorder) -> str:
    sliced = recorder.of("OrphanLookupKeySlicerHook")
    return "" if sliced else ", ".join(pipeline.without_dataset(recorder.looked_up))


def _without_init(recorder: Recorder) -> bool:
    return ConfigInitializer._instance is None and bool(recorder.of("create_table", "FeatureSpec"))


def _hosted(recorder: Recorder) -> bool:
    return any(value != "0" for call in recorder.of("create_table")
               for value in call.values.get("host_vocabulary_size", ()))


def _expansion(recorder: Recorder) -> bool:
    return find(recorder.of("init"), "use_dynamic_expansion") == "True"


def _collective(recorder: Recorder) -> bool:
    return _one_rank(recorder) and bool(recorder.of("hccl_ops.allreduce", "hccl_ops.broadcast", "hccl_ops.allgather",
                                                    "hccl_ops.reduce"))


def _one_rank(recorder: Recorder) -> bool:
    return bool(recorder.calls) and os.environ.get("OMPI_COMM_WORLD_SIZE") == "1"


_RULES = (
    Rule(_one_rank,
         "One rank ran here. On a device a launcher (mpirun, horovodrun) sets OMPI_COMM_WORLD_RANK, _SIZE and "
         "_LOCAL_SIZE, also for one rank. Several ranks share tables and sum the gradients of rows; those of dense "
         "variables are the program's to sum."),
    Rule(_called("NPUEstimator"),
         "NPUEstimator reads JOB_ID and RANK_SIZE (or CM_WORKER_SIZE) from the environment; the runner sets "
         "JOB_ID, a device's launch script must."),
    Rule(_racing,
         "Results vary from run to run, here and on a device: the dense optimizer updates %s while the gradients "
         "of the tables still read it. Compute both gradients first and apply the dense ones under "
         "tf.control_dependencies on the tables' gradients."),
    Rule(_not_started,
         "FeatureSpecs were looked up and the host pipeline was not started: a device ends the iterator's initializer "
         "with \"KeyProcess not running.\" Call start_asc_pipeline() before it."),
    Rule(_endless,
         "FeatureSpecs without Dataset.eos_map: here the dataset ends by itself; on a device its end is not announced, "
         "so run no more steps than there are batches, or call eos_map before the insert function is mapped."),
    Rule(_no_prefetch,
         "A dataset of looked-up tensors ends with %s: graph modification on a device needs prefetch as the last "
         "stage."),
    Rule(_ids_of_strings,
         "Ids are made of strings in the graph (%s): on a device make them in the input function, or put "
         "LookupSubgraphSlicerHook(op_types) before GraphModifierHook."),
    Rule(_ids_of_no_dataset,
         "No dataset feeds the looked-up tensors %s: on a device put OrphanLookupKeySlicerHook() before "
         "GraphModifierHook."),
    Rule(_loops,
         "iterations_per_loop=%s: a device makes the steps of a run without the host, here they are made one after"
         " the other; hooks see the global step after each run only, on both."),
    Rule(_random_rows,
         "Rows begin with random values (%s): which row a new id gets follows the order of arrival, so a device, "
         "and several ranks, begin with other values."),
    Rule(_half_precision,
         "precision %s: a device computes in half precision; here everything is float32."),
    Rule(_called("npu_ops.dropout", "dropout"),
         "npu_ops.dropout: a device draws masks from the op's seed, here they follow seed and step; keep_prob=1 "
         "(an int) returns x itself here only."),
    Rule(_called("create_table().size"),
         "table.size() is the number of keys of this rank's host process on a device; here that of the session "
         "that ran last."),
    Rule(_hosted,
         "Tables in host memory or on disk: a device swaps rows between the batches, here all rows are in memory "
         "and nothing is written to ssd_data_path; device_vocabulary_size must hold the distinct ids of two "
         "batches."),
    Rule(_expansion,
         "Dynamic expansion needs the operator package cust_op_by_addr on a device."),
    Rule(_collective,
         "Collective operations of one rank are the identity; on a device every rank must run the same ones."),
    Rule(_called("mx_rec.optimizers.ftrl.create_hash_optimizer"),
         "FTRL: without shrinkage the SDK adds the term that TensorFlow's FTRL subtracts; the stand-in does as the"
         " SDK."),
    Rule(_called("mx_rec.optimizers.adagrad.create_hash_optimizer"),
         "Adagrad keeps its accumulator in the TensorFlow checkpoint by row number, under a name with the number "
         "of the optimizer in its process, and rows are renumbered when a table is loaded: prefer lazy Adam or "
         "gradient descent."),
    Rule(_called("EvictHook"),
         "Eviction takes host time on a device; the optimizer states of freed rows stay, on both."),
    Rule(_called("Estimator.export_saved_model", "Estimator.export_savedmodel"),
         "An exported graph does not serve by itself: on a device it reads its tables through the host pipeline, "
         "here they lie in variables/sparse-variables. Build a serving graph from the dense checkpoint and the "
         "tables' folders."),
    Rule(lambda recorder: bool(recorder.of("NPUEstimator") and recorder.of("Estimator.train")),
         "NPUCheckpointSaverHook of 2026-07 reads the global step in a run of its own after every step; here that "
         "is part of the step."),
    Rule(_given("is_grad", "sparse_lookup"),
         "is_grad=%s was given: a device sends no gradients for a table none of whose lookups has is_grad."),
    Rule(_without_init,
         "The program made tables or features without init(): on a device every session, Saver and Estimator asks "
         "for it once mx_rec is imported."),
    Rule(_called("clear_channel", "import_host_pipeline_ops().clear_channel"),
         "clear_channel empties the host pipeline's queue on a device; here nothing is queued."),
)
