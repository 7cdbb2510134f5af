"""What can be typed: run (the default, also a sweep), list, report."""
