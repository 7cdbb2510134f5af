"""How fast kdrun is, against a textbook loop and a toolkit's, in rounds: `python -m tests.bench --help`."""
