"""Gate weights as TensorBoard histograms, beside the scalars that the Estimator writes of an evaluation."""
import os
from typing import Any, Dict, Sequence

import tensorflow as tf

from estimator_app.model.gate_metrics import HISTOGRAM_PREFIX

TAG_PREFIX = "gate_weights/"
_EVAL_FOLDER = "eval"


def write_gate_histograms(model_dir: str, metrics: Dict[str, Any]) -> None:
    """Writes ``gate_weights/<task>`` into the event files of the evaluations.

    Args:
        model_dir: the model directory.
        metrics: of an evaluation, with ``global_step``.
    """
    values = [tf.compat.v1.Summary.Value(tag=TAG_PREFIX + name[len(HISTOGRAM_PREFIX):], histo=histogram(counts))
              for name, counts in sorted(metrics.items()) if name.startswith(HISTOGRAM_PREFIX)]
    if not values:
        return
    # The writer that the Estimator uses for the same folder.
    writer = tf.compat.v1.summary.FileWriterCache.get(os.path.join(model_dir, _EVAL_FOLDER))
    writer.add_summary(tf.compat.v1.Summary(value=values), metrics["global_step"])
    writer.flush()


def histogram(counts: Sequence[float]) -> Any:
    """Returns a HistogramProto of values that were counted in equal bins from 0 to 1; sums take the bins' centres."""
    bins = len(counts)
    centres = [(number + 0.5) / bins for number in range(bins)]
    filled = [number for number, count in enumerate(counts) if count]
    proto = tf.compat.v1.HistogramProto(
        num=sum(counts), sum=sum(count * centre for count, centre in zip(counts, centres)),
        sum_squares=sum(count * centre * centre for count, centre in zip(counts, centres)),
        min=filled[0] / bins if filled else 0.0, max=(filled[-1] + 1) / bins if filled else 0.0)
    proto.bucket_limit.extend((number + 1) / bins for number in range(bins))
    proto.bucket.extend(counts)
    return proto
