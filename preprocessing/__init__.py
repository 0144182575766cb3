"""Files of rows -> vocabularies, statistics, TFRecord shards and ``manifest.json``.

:func:`preprocessing.pipeline.prepare` does all of it; :mod:`.prepare` and :mod:`.drafting.describe` are command lines.
:func:`preprocessing.reading.readers.read_frames` and :func:`preprocessing.vocabulary.encode_frame` are also what
prediction reads files with. TensorFlow is loaded only where something is hashed or records are written.
"""
