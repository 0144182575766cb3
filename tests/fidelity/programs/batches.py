"""The data of the programs: ids of three fields, two numbers and a 0/1 label, the same at every call."""
import numpy as np

FIELDS, NUMBERS, BATCH, IDS = 3, 2, 8, 40


def batches(count, seed=0):
    """[count] dicts of ids int64 [8, 3], numbers float32 [8, 2], label float32 [8]."""
    random = np.random.RandomState(seed)
    return [{"ids": random.randint(0, IDS, (BATCH, FIELDS)).astype(np.int64),
             "numbers": random.rand(BATCH, NUMBERS).astype(np.float32),
             "label": random.randint(0, 2, BATCH).astype(np.float32)} for _ in range(count)]


def dataset(count, seed=0):
    """The batches as a tf.data.Dataset of feature dicts."""
    import tensorflow as tf
    rows = batches(count, seed)
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return tf.compat.v1.data.Dataset.from_tensor_slices(stacked).prefetch(2)


def network(embedded, numbers):
    """Logits [8] of the summed rows [8, 3, dim] and the numbers; the dense part starts at constants."""
    import tensorflow as tf
    dim = embedded.shape[-1].value
    w = tf.compat.v1.get_variable("w", [dim, 1], initializer=tf.compat.v1.constant_initializer(0.5))
    v = tf.compat.v1.get_variable("v", [NUMBERS, 1], initializer=tf.compat.v1.constant_initializer(-0.25))
    pooled = tf.reduce_sum(embedded, axis=1)
    return tf.squeeze(tf.matmul(pooled, w) + tf.matmul(numbers, v), axis=1)


def mean_loss(logits, label):
    """Mean sigmoid cross-entropy, a scalar."""
    import tensorflow as tf
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits))
