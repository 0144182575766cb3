"""TFRecord files -> tf.data.Dataset: extract, reshape, shard, shuffle, encode, resume."""
