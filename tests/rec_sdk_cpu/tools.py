"""Small helpers for tests of tables and lookups."""
import numpy as np
import tensorflow as tf

CONSTANT = tf.compat.v1.constant_initializer


def start(**arguments):
    """Initialises the SDK; steps have no limit."""
    from mx_rec.util.initialize import init
    init(**dict({"max_steps": -1}, **arguments))


def make_table(name="t", dim=3, rows=20, initializer=None, **arguments):
    from mx_rec.core.embedding import create_table
    tf.compat.v1.train.get_or_create_global_step()
    table = create_table(key_dtype=tf.int64, dim=dim, name=name,
                         emb_initializer=initializer or tf.compat.v1.truncated_normal_initializer(stddev=1.0, seed=5),
                         device_vocabulary_size=rows, **arguments)
    # Made now, because a monitored session finalises the graph.
    table.exported = table.index.export()
    return table


def lookup(table, ids, is_train=True, **arguments):
    """A lookup of a tensor, in graph-modification mode."""
    from mx_rec.core.embedding import sparse_lookup
    return sparse_lookup(table, ids, is_train=is_train, modify_graph=True, **arguments)


def session():
    made = tf.compat.v1.Session()
    made.run(tf.compat.v1.global_variables_initializer())
    return made


def keys_of(sess, table):
    """{key: row number}."""
    keys, rows = sess.run(table.exported)
    return dict(zip(keys.tolist(), rows.tolist()))


def rows_of(sess, table, keys):
    """float32 [n, dim], the rows of known keys."""
    index = keys_of(sess, table)
    return sess.run(table.variable)[[index[key] for key in keys]]


def ids_placeholder(shape=(None,)):
    return tf.compat.v1.placeholder(tf.int64, list(shape))


def write_sparse(directory, table, keys, embedding, states, history=None):
    """Writes a sparse folder with NumPy alone, as an NPU run would leave it."""
    import os

    def put(folder, array, attribute):
        path = os.path.join(directory, table, folder)
        os.makedirs(path)
        np.ascontiguousarray(array).tofile(os.path.join(path, "slice.data"))
        np.array(attribute, np.int64).tofile(os.path.join(path, "slice.attribute"))

    put("key", np.asarray(keys, np.int64), [len(keys), 8])
    for name, values in dict(states, embedding=embedding).items():
        put(name, np.asarray(values, np.float32), [values.shape[0], values.shape[1], 4])
