"""What can be typed: run (the default, also a sweep), check, list, report, predict, outputs."""
