"""A small dataset, raw text made by hand, and readers of what was written that share no code with the product."""
import glob
import os

from feature_specs.dataset import DatasetDefinition, TaskDefinition

TOY = DatasetDefinition(
    name="toy", columns=("x", "a", "unused", "b", "y", "click", "buy"), sparse_columns=("b", "a"),
    dense_columns=("y", "x"),
    tasks=(TaskDefinition("click", "click", "yes", ("no", "yes")), TaskDefinition("buy", "buy", "1.", ("0.", "1."))))


def write(path, text):
    with open(str(path), "wb") as stream:
        stream.write(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def read_bytes(path):
    with open(str(path), "rb") as stream:
        return stream.read()


def toy_line(x=1, a="p", b="q", y=2, click="no", buy="0.", unused="u"):
    return "%s, %s, %s, %s, %s, %s, %s\n" % (x, a, unused, b, y, click, buy)


def toy_text(rows, start=0):
    """Every value of a row follows from its number."""
    return "".join(toy_line(x=i, a="a%d" % (i % 7), b="b %d" % (i * 3 % 11), y=i / 4, click=("no", "yes")[i % 3 == 0],
                            buy=("0.", "1.")[i % 5 == 0]) for i in range(start, start + rows))


def read_records(directory, split):
    """Every record of a split through TensorFlow's own reader: [{key: list}]."""
    import tensorflow as tf  # Not above: child processes use this module too, and need no TensorFlow.

    records = []
    for path in sorted(glob.glob(os.path.join(str(directory), split, "*.tfrecord"))):
        for data in tf.compat.v1.io.tf_record_iterator(path):
            feature = tf.train.Example.FromString(data).features.feature
            assert sorted(feature) == ["dense_feature", "label", "sparse_feature"]
            records.append((list(feature["label"].int64_list.value), list(feature["sparse_feature"].int64_list.value),
                            list(feature["dense_feature"].float_list.value)))
    return records


def read_rows(directory, split, manifest):
    """Every row as a tuple (labels, ids, dense), padding rows included."""
    definition, rows = manifest.dataset, []
    for label, sparse, dense in read_records(directory, split):
        for i in range(manifest.line_per_sample):
            rows.append(tuple(tuple(values[i * width:(i + 1) * width]) for values, width in (
                (label, definition.num_tasks), (sparse, definition.num_sparse), (dense, definition.num_dense))))
    return rows
