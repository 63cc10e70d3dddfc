"""The built-in gates, one file per family."""
