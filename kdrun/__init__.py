"""Distil image classifiers: a teacher, a student, and always a control."""

__version__ = "0.1.0"
