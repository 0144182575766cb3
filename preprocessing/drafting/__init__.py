"""Unknown files -> a draft of their dataset file: the ``describe`` command."""
