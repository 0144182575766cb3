"""The search over settings, on validation rows of the training files."""
