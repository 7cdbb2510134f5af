"""Where trainings are made: one file for each engine, found by name."""
