"""Losses: one file per loss, a pure function first and a thin `Loss` after it; `mix.py` adds them up."""
