"""Training: loop.py is the step, run.py a run around it; checkpoints, several processes, the estimate and the metrics log."""
