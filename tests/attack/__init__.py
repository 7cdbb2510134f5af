"""Attacks: values, words and damaged files that nobody listed, drawn from a seed.

`python -m tests.attack --minutes 30` goes on finding; `test_attack.py` is a short part of it.
"""
