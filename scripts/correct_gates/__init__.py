"""Right gates in the style of students and researchers, on which the gradient check must raise no alarm."""
