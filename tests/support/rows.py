"""A small dataset with every kind of column, text files of it, and readers that share no code with the product."""
import csv
import functools
import glob
import io
import os
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf

from feature_specs.dataset_file import parse_dataset

TOY_YAML = """
name: toy
files: {format: csv, header: true, separator: "\\t", missing: ["", "NULL"]}
features:
  user: {type: categorical, encoding: hash}
  item: {type: categorical, min_count: 2}
  seen: {type: categorical, separator: ",", max_length: 3, vocabulary: item}
  tags: {type: categorical, separator: "|", max_length: 2, keep: first}
  city: {type: categorical}
  price: {type: numeric}
  age: {type: numeric, column: years}
tasks:
  click: {type: binary, column: click}
  buy: {type: binary, column: bought, positive: [yes], negative: any, given: click}
  watch: {type: regression, column: seconds, transform: log, where: click}
weight: w
group: user
row_key: key
"""
TOY = parse_dataset(TOY_YAML, "toy.yaml").definition
COLUMNS = ("key", "user", "item", "seen", "tags", "city", "price", "years", "click", "bought", "seconds", "w", "unused")


def toy_rows(count, seed=0):
    """Rows as lists of texts."""
    random = np.random.RandomState(seed)
    rows = []
    for number in range(count):
        items = ["i%d" % item for item in random.randint(0, 30, random.randint(0, 6))]
        tags = ["t%d" % tag for tag in random.randint(0, 9, random.randint(0, 4))]
        rows.append([
            "k%d" % number, "u%d" % random.randint(40), "i%d" % random.randint(30), ",".join(items), "|".join(tags),
            ["", "NULL", "Rome", "Oslo", "Bonn"][random.randint(5)],
            ["", "%.3f" % random.gamma(2)][random.rand() < 0.9],
            str(random.randint(90)), ["0", "1", ""][random.randint(3)], ["yes", "no", "maybe"][random.randint(3)],
            ["", "%d" % random.randint(500)][random.rand() < 0.5], "%.2f" % random.rand(), "x"])
    return rows


def text_of(rows, columns=COLUMNS, separator="\t"):
    output = io.StringIO()
    writer = csv.writer(output, delimiter=separator, lineterminator="\n")
    if columns:
        writer.writerow(columns)
    writer.writerows(rows)
    return output.getvalue()


def write(path, content):
    with open(str(path), "wb") as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def reverse_vocabulary(path):
    """Gives the values of a vocabulary file each other's indexes; the file stays a vocabulary file."""
    table = pa.parquet.read_table(path)
    values = pa.array(table["value"].to_pylist()[::-1], pa.string())
    pa.parquet.write_table(table.set_column(table.schema.get_field_index("value"), "value", values), path)


def read_bytes(path):
    with open(str(path), "rb") as stream:
        return stream.read()


def record_offsets(path):
    """The offset of every record of a TFRecord file: uint64 length, its checksum, the data, their checksum."""
    content, offsets, place = read_bytes(path), [], 0
    while place < len(content):
        offsets.append(place)
        place += 16 + struct.unpack_from("<Q", content, place)[0]
    return offsets


def read_records(directory, split):
    """Every record of a split through TensorFlow's own reader: [{key: list}]."""
    records = []
    for path in sorted(glob.glob(os.path.join(str(directory), split, "*.tfrecord"))):
        for data in tf.compat.v1.io.tf_record_iterator(path):
            records.append({key: list(item.int64_list.value) or list(item.float_list.value)
                            for key, item in sorted(tf.train.Example.FromString(data).features.feature.items())})
    return records


def read_rows(directory, split, line_per_sample):
    """Every row of a split, padding rows included: [{key: list}]."""
    rows = []
    for record in read_records(directory, split):
        for number in range(line_per_sample):
            rows.append({key: values[number * len(values) // line_per_sample:][:len(values) // line_per_sample]
                         for key, values in record.items()})
    return rows


def hashes(texts):
    """1 + FarmHash over 2**40 - 1 buckets, by TensorFlow."""
    return (1 + _hasher()(texts)).tolist()


@functools.lru_cache()
def _hasher():
    with tf.Graph().as_default():
        given = tf.compat.v1.placeholder(tf.string, [None])
        return tf.compat.v1.Session().make_callable(tf.strings.to_hash_bucket_fast(given, 2 ** 40 - 1), [given])


class Oracle:
    """Encodes rows of texts as the documentation says, row by row."""

    def __init__(self, definition, columns):
        self.definition, self.columns = definition, columns
        self.order, self.counts = {}, {}

    def cell(self, row, column):
        text = row[self.columns.index(column)].strip(" \t\n\v\f\r")
        return "" if text in self.definition.files.missing else text

    def values(self, row, feature):
        text = self.cell(row, feature.column)
        if not feature.is_list:
            return [text]
        values = [value.strip() for value in text.split(feature.separator) if value.strip()]
        return values[:feature.max_length] if feature.keep == "first" else values[-feature.max_length:]

    def learn(self, rows):
        for row in rows:
            for feature in self.definition.categorical:
                name = feature.vocabulary or feature.name
                for value in self.values(row, feature):
                    self.order.setdefault(name, []).append(value)
        return self

    def indexes(self, name):
        feature = [item for item in self.definition.categorical if item.name == name][0]
        seen = self.order.get(name, [])
        kept = [value for value in dict.fromkeys(seen) if seen.count(value) >= feature.min_count]
        return {value: index for index, value in enumerate(kept, 1)}

    def sparse(self, row):
        result = []
        for feature in self.definition.categorical:
            values = self.values(row, feature)
            if feature.encoding == "hash":
                found = hashes(values) if values else []
            else:
                index = self.indexes(feature.vocabulary or feature.name)
                found = [index.get(value, 0) for value in values]
            result += found + [-1] * (feature.width - len(found))
        return result

    def number(self, row, column):
        text = self.cell(row, column)
        return np.float32("nan") if text in ("", "?", "nan") else np.float32(float(text))
