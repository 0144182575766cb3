"""The network: embedding, experts, gates, towers, tasks, metrics; knows no file, no flag, no device."""
