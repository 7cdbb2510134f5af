"""The three stages: teacher, student, evaluate. `pipeline.execute` says what will happen, then does it."""
