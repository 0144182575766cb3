"""Raw comma-separated text -> vocabularies, statistics, TFRecord shards and ``manifest.json``.

:func:`preprocessing.pipeline.prepare` does all of it; ``python -m preprocessing.census --help`` is its command line
for the Census-Income data. :func:`preprocessing.raw_reader.read_chunks` is also what prediction reads raw text with.
Nothing here imports TensorFlow.
"""
