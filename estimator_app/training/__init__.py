"""Training and evaluation: the loop, its hooks, the report and the search over settings."""
