"""Reports on runs, comparisons of runs, and pictures of computation graphs."""
