"""What can be typed: run (the default, also a sweep), table, tune, check, list, report, predict, outputs."""
