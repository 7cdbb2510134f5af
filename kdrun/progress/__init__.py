"""Followers of a training: screen, journal, loggers."""
