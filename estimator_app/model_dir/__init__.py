"""What lies in a model directory: settings, history, lock and checkpoints."""
