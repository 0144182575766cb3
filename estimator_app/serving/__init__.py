"""From a checkpoint to scores: the exported graph, its weights, export and predict."""
