"""Memory of large preparations, in processes of their own."""
import json
import os
import subprocess
import sys

import pytest

from preprocessing.samples.sample import write_sample
from tests.support.rows import read_bytes, write

CODE = """
import json, resource, sys
from feature_specs.dataset_file import load_dataset
from preprocessing.pipeline import Preparation, prepare
dataset, train, test, output = sys.argv[1:]
manifest = prepare(Preparation(load_dataset(dataset).definition, (train,), (test,), output))
print(json.dumps({"rows": manifest.splits["train"].rows,
                  "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "distinct": max(info.distinct for info in manifest.vocabularies.values())}))
"""


def prepared(tmp_path, dataset, train, test):
    done = subprocess.run([sys.executable, "-c", CODE, dataset, train, test, str(tmp_path / "out")], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=dict(os.environ, PYTHONPATH=os.getcwd(), PYTHONWARNINGS="ignore"))
    return json.loads(done.stdout)


@pytest.mark.long
def test_five_million_rows_take_less_than_a_gigabyte(tmp_path):
    paths = write_sample("census", str(tmp_path), 50000, 1000, 1)
    # Members of a gzip file follow one another.
    write(tmp_path / "many.gz", read_bytes(paths[0]) * 100)
    found = prepared(tmp_path, "census", str(tmp_path / "many.gz"), paths[1])
    assert found["rows"] == 5000000 and found["megabytes"] < 1000


@pytest.mark.long
def test_millions_of_values_are_bounded(tmp_path):
    definition = write(tmp_path / "d.yaml", "{name: v, features: {id: {type: categorical}}, tasks: {y: {type: "
                       "binary}}}")
    rows = "".join("%d,%d\n" % (number * 2654435761 % 4294967291, number % 7 == 0) for number in range(3000000))
    train = write(tmp_path / "train.csv", "id,y\n" + rows)
    test = write(tmp_path / "test.csv", "id,y\n" + rows[:500].rsplit("\n", 1)[0] + "\n")
    found = prepared(tmp_path, definition, train, test)
    assert found["distinct"] == 3000000 and found["megabytes"] < 1000
