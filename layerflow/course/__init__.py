"""Exercises in backpropagation, and their grading."""
