"""Training: optimizers, schedules, metrics, and the loop."""
