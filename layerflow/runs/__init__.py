"""Run folders: everything that a training leaves on disk, and everything that reads it back."""
