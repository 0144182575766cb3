"""The training app: command line, configuration, model_fn, MMoE graph, metrics, training, export and reports."""

__version__ = "1.0.0"
