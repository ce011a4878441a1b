"""Training: loop.py is the step, run.py the run around it. Read loop.py first."""
