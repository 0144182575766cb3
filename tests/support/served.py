"""A small dataset with everything that serving must understand, a model of it, and the formulas in NumPy."""
import dataclasses
import os

import numpy as np
import tensorflow as tf

from estimator_app.model.definition import dense_variable_shapes, make_model
from estimator_app.model_dir import sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from estimator_app.serving.weights import Table, TrainedModel
from tests.support import model_oracle, rows, runs

YAML = """
name: served
files: {format: csv, header: true, separator: "\\t", missing: ["", "NULL"]}
features:
  user: {type: categorical, encoding: hash, table: users}
  item: {type: categorical, min_count: 2}
  seen: {type: categorical, separator: ",", max_length: 3, vocabulary: item}
  tags: {type: categorical, separator: "|", max_length: 2, keep: first, pooling: sum}
  likes: {type: categorical, separator: ";", max_length: 3, encoding: hash, table: users}
  city: {type: categorical}
  price: {type: numeric, bins: 4, missing: 2.5}
  age: {type: numeric, column: years, transform: standard, bins: 0}
  score: {type: numeric, transform: none, bins: 0}
tables:
  users: {dim: 3}
tasks:
  click: {type: binary, column: click}
  buy: {type: binary, column: bought, positive: [yes], negative: any, given: click}
  keep: {type: binary, column: kept, given: buy}
  rate: {type: binary, column: rated, where: click}
  watch: {type: regression, column: seconds, transform: log, where: click}
weight: w
group: user
row_key: key
"""
COLUMNS = ("key", "user", "item", "seen", "tags", "likes", "city", "price", "years", "score", "click", "bought",
           "kept", "rated", "seconds", "w", "unused")
LABELS = ("click", "bought", "kept", "rated", "seconds", "w")
OUTPUTS = ["click", "buy", "buy_given_click", "keep", "keep_given_buy", "rate", "watch"]
TRAIN_ROWS, TEST_ROWS = 400, 90
FLAGS = ("--threads", "1", "--batch_size", "32", "--train_epoch", "1",
         "--device", "cpu", "--model", "mmoe", "--expert_num", "2", "--expert_layers", "5", "--tower_layers", "4",
         "--embedding_dim", "4",
         "--dense_bins", "0", "--learning_rate", "0.02", "--sparse_learning_rate", "0.05")


def served_rows(count, seed=0):
    """Rows as lists of texts, one cell per column."""
    random = np.random.RandomState(seed)
    made = []
    for row in rows.toy_rows(count, seed):
        toy = dict(zip(rows.COLUMNS, row))
        likes = ["l%d" % like for like in random.randint(0, 12, random.randint(0, 6))]
        click = str(int(int(toy["years"]) + 20 * random.normal() > 45))
        toy.update(likes=";".join(likes), score="%.3f" % random.normal(), kept=str(random.randint(2)), click=click,
                   rated=["0", "1", ""][random.randint(3)], bought=["yes", "no"][random.randint(2)])
        made.append([toy[column] for column in COLUMNS])
    return made


# What clients send that is not quite what was trained on.
ODD_CELLS = (
    {"item": "never seen"}, {"item": "  i3\t"}, {"item": "I3"}, {"city": ""}, {"city": "NULL"}, {"city": " NULL "},
    {"user": "somebody new"}, {"user": ""}, {"seen": ""}, {"seen": "NULL"}, {"seen": "i1,i2,i3,i4,i5,i6"},
    {"seen": " i1 ,, i2,"}, {"seen": "?,i1,??"}, {"seen": ","}, {"tags": "t1|t2|t3"}, {"tags": "|| t4 ||t5|t6"},
    {"tags": "unheard of"}, {"likes": "l1;l1;l2;l3"}, {"likes": ""}, {"likes": "new;l4"}, {"price": ""}, {"price": "0"},
    {"price": "123456"}, {"price": "-5"}, {"years": ""}, {"score": ""}, {"score": "-1234.5"}, {"item": "Zürich ☃"})


def odd_rows(columns=COLUMNS):
    """Ordinary rows with one odd cell each."""
    changed = []
    for cells, change in zip(served_rows(len(ODD_CELLS), 7), ODD_CELLS):
        cells = list(cells)
        for column, text in change.items():
            cells[columns.index(column)] = text
        changed.append(cells)
    return changed


def prepare_served(root):
    """Prepares ``root/data`` from ``root/train.tsv`` and ``root/test.tsv``; returns the manifest."""
    dataset = rows.write(os.path.join(str(root), "served.yaml"), YAML)
    paths = [rows.write(os.path.join(str(root), name + ".tsv"), rows.text_of(content, COLUMNS)) for name, content in (
        ("train", train_rows()), ("test", test_rows()))]
    return runs.run_prepare("--dataset", dataset, "--train_data_path", paths[0], "--test_data_path", paths[1],
                            "--output_path", os.path.join(str(root), "data"), "--num_shards", "2", "--num_workers", "1",
                            "--line_per_sample", "4")


def train_rows():
    return served_rows(TRAIN_ROWS, 1)


def test_rows():
    return served_rows(TEST_ROWS, 2)


test_rows.__test__ = False


def random_model(config, manifest, seed=0, lost=0.2):
    """A model whose weights nobody trained; some keys of the vocabularies have no row."""
    random = np.random.RandomState(seed)
    model = make_model(config, manifest)
    dense = {name: np.abs(random.normal(0.5, 0.3, shape)) + 0.1 if name.endswith("variance") else
             random.normal(0, 0.5, shape) for name, shape in sorted(dense_variable_shapes(model).items())}
    tables = {}
    for layout in model.encoding.tables:
        keys = np.unique(np.concatenate([possible_keys(manifest, field.name) for field in layout.fields]))
        # Training leaves a row for the padding key, too; nothing may come of it.
        keys = np.append(0, keys[random.rand(len(keys)) >= lost])
        values = random.normal(0, 0.7, (len(keys), model.table_dim(layout)))
        tables[layout.name] = Table(keys, values.astype(np.float32))
    return TrainedModel(model, Checkpoint(config.model_dir, 1),
                        {name: value.astype(np.float32) for name, value in dense.items()}, tables)


def possible_keys(manifest, name):
    """Keys that a feature of the served dataset can have."""
    features = {feature.name: feature for feature in manifest.dataset.categorical}
    vocabulary = (features[name].vocabulary or name) if name in features else name
    info = manifest.vocabularies[vocabulary]
    if info.encoding == "hash":
        values = rows.hashes(["%s%d" % (name[0], number) for number in range(40)] + [""])
    else:
        values = range(info.size or 4)
    return (info.number << 40) + np.array(sorted(values), np.int64)


class Formulas:
    """From cells to outputs by the documentation: texts, keys, pooling, network and tasks.

    Args:
        trained: settings, data and weights.
        learned: rows that the vocabularies were learned from.
    """

    def __init__(self, trained, learned):
        self.config, self.manifest = trained.model.config, trained.model.manifest
        self.dataset = self.manifest.dataset
        self.texts = rows.Oracle(self.dataset, COLUMNS).learn(learned)
        self.tables = {name: dict(zip(table.keys.tolist(), table.rows.astype(np.float64)))
                       for name, table in trained.tables.items()}
        self.dims = {name: table.rows.shape[1] for name, table in trained.tables.items()}
        self.network = model_oracle.Network(self.config, self.dataset.task_names, trained.dense)
        self.tasks = model_oracle.Tasks(self.dataset, self.manifest.label_statistics)

    def sparse(self, cells):
        """int64 [n, W] as records hold them."""
        return np.array([self.texts.sparse(row) for row in cells], np.int64)

    def dense(self, cells):
        """float32 [n, D], NaN where missing."""
        return np.array([[self.texts.number(row, feature.column) for feature in self.dataset.numeric]
                         for row in cells], np.float32)

    def outputs(self, cells):
        """{output: float64 [n]} of rows of texts."""
        return self.of_values(self.sparse(cells), self.dense(cells))

    def of_values(self, sparse, dense):
        """The same of values as records hold them."""
        vectors, place = {}, 0
        for feature in self.dataset.categorical:
            values = sparse[:, place:place + feature.width]
            place += feature.width
            number = self.manifest.vocabularies[feature.vocabulary or feature.name].number
            keys = np.where(values < 0, 0, (number << 40) + values)
            vectors[feature.name] = self._pooled(feature.table, keys, feature.pooling if feature.is_list else "sum")
        columns = []
        for place, feature in enumerate(self.dataset.numeric):
            statistics = self.manifest.dense_statistics[feature.name]
            raw = np.where(np.isnan(dense[:, place]), np.float32(
                statistics.mean if feature.missing == "mean" else feature.missing), dense[:, place])
            transform = feature.transform or self.config.dense_transform
            wanted = self.config.dense_bins if feature.bins is None else feature.bins
            if wanted:
                edges = np.array(self._edges(statistics, wanted), np.float32)
                keys = (self.manifest.vocabularies[feature.name].number << 40) + np.searchsorted(edges, raw, "left")
                vectors[feature.name] = self._pooled(feature.table, keys[:, None], "sum")
            raw = raw.astype(np.float64)
            if transform != "none":
                raw = np.clip(raw, np.float32(statistics.minimum), np.float32(statistics.maximum))
            mean, std = (0.0, 1.0) if transform == "none" else (statistics.mean, statistics.std)
            if transform == "log_standard":
                raw, mean, std = np.sign(raw) * np.log1p(np.abs(raw)), statistics.log_mean, statistics.log_std
            columns.append((raw - mean) / std)
        ordered = [vectors[field] for name in [table.name for table in self.dataset.tables]
                   for field in vectors if self._table_of(field) == name]
        is_sum = self.config.input_layer == "sum"
        first = self.network.first_layer(np.stack(columns, axis=1), sum(ordered) if is_sum else None, ordered)
        logits, _ = self.network.run(first)
        found = {}
        for task in self.dataset.tasks:
            if task.type == "regression":
                found[task.name] = np.expm1(self.tasks.number(logits, task.name))
                continue
            found[task.name] = self.tasks.probability(logits, task.name)
            if task.given:
                found["%s_given_%s" % (task.name, task.given)] = model_oracle.sigmoid(logits[task.name])
        return found

    def _table_of(self, field):
        return {feature.name: feature.table for feature in self.dataset.features}[field]

    def _pooled(self, table, keys, pooling):
        size = self.dims[table]
        complete = {key: self.tables[table].get(key, np.zeros(size)) for key in keys.ravel().tolist()}
        return model_oracle.pooled(complete, keys, pooling) if len(keys) else np.zeros((0, size))

    @staticmethod
    def _edges(statistics, wanted):
        from feature_specs.encoding import merge_bins
        return merge_bins(statistics.bin_edges, statistics.bin_counts, wanted)


class Client:
    """Calls signatures with all checks left to the graph, as a model server does.

    Args:
        session: with the graph.
        signatures: {name: (inputs, outputs)}, each {name: tensor's name}.
    """

    def __init__(self, session, signatures):
        self.session, self.signatures = session, signatures
        self._calls = {}

    @classmethod
    def of_saved_model(cls, path):
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], path)
        return cls(session, {name: tuple({key: info.name for key, info in items.items()} for items in (
            definition.inputs, definition.outputs)) for name, definition in loaded.signature_def.items()})

    @classmethod
    def of_graph(cls, serving, names=("serving_default", "examples", "raw")):
        """Of a graph that is the current one."""
        built = {"serving_default": serving.default_signature, "examples": serving.examples_signature,
                 "raw": serving.raw_signature}
        signatures = {name: tuple({key: tensor.name for key, tensor in items.items()} for items in built[name]())
                      for name in names}
        session = tf.compat.v1.Session()
        serving.assign(session)
        return cls(session, signatures)

    def __call__(self, signature, **inputs):
        """{output: float32 [n]}."""
        from tensorflow.core.protobuf import config_pb2
        taken, given = self.signatures[signature]
        assert sorted(inputs) == sorted(taken)
        outputs = sorted(given)
        if signature not in self._calls:
            self._calls[signature] = self.session._make_callable_from_options(config_pb2.CallableOptions(
                feed=[taken[name] for name in sorted(taken)], fetch=[given[name] for name in outputs]))
        found = self._calls[signature](*[np.asarray(inputs[name]) for name in sorted(inputs)])
        assert all(value.dtype == np.float32 and value.shape[1:] == (1,) for value in found)
        return {name: value[:, 0] for name, value in zip(outputs, found)}


def raw_inputs(dataset, cells, columns=COLUMNS):
    """Cells in the form of the signature ``raw``: nothing is done to the texts."""
    def column(feature):
        return [row[columns.index(feature.column)] for row in cells]

    inputs = {feature.name: np.array([[text] for text in column(feature)], object) for feature in dataset.categorical}
    inputs.update((feature.name, np.array([[float(text or "nan")] for text in column(feature)], np.float32))
                  for feature in dataset.numeric)
    return inputs


def example(**values):
    """One serialized tf.Example: texts, bytes, lists of numbers."""
    features = {}
    for name, value in values.items():
        items = value if isinstance(value, (list, np.ndarray)) else [value]
        kind = type(items[0].item() if isinstance(items[0], np.generic) else items[0])
        if kind is int:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=items))
        elif kind is float:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=items))
        else:
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(
                value=[item.encode("utf-8") if isinstance(item, str) else item for item in items]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def assert_agree(found, expected, probability=1e-6, relative=1e-5):
    """Probabilities to 1e-6, numbers to 1e-5 of their size."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        if name == "watch":
            np.testing.assert_allclose(found[name], value, rtol=relative, atol=relative, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], value, rtol=0, atol=probability, err_msg=name)


def rewrite_table(model_dir, step, table, change):
    """Writes a table of a checkpoint anew; ``change(keys, rows)`` returns other ones."""
    from rec_sdk_cpu.core import sparse_files
    checkpoint = Checkpoint(str(model_dir), step)
    names = sparse_tables.tables(checkpoint.tables)
    before = {name: (sparse_tables.read_keys(checkpoint.tables, name), sparse_tables.open_rows(checkpoint.tables, name),
                     sparse_tables.states(checkpoint.tables, name)) for name in names}
    with sparse_files.FolderWriter(checkpoint.tables) as writer:
        for name, (keys, values, states) in before.items():
            if name == table:
                keys, values = change(np.array(keys), np.array(values))
            if keys is None:
                continue
            writer.write_keys(name, keys)
            for state in states:
                writer.write_rows(name, state, values.shape[1], [values if state == "embedding" else 0 * values])


def without_dims(manifest):
    """The same data with tables that leave their size to the run, as the input layer ``sum`` wants them."""
    tables = tuple(dataclasses.replace(table, dim=0) for table in manifest.dataset.tables)
    return dataclasses.replace(manifest, dataset=dataclasses.replace(manifest.dataset, tables=tables))
