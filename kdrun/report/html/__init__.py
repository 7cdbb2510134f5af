"""The HTML page of a run, a sweep or a list of runs: one file that needs no network."""
