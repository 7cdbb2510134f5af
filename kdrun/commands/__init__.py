"""The commands: a module for each page of `pages.py`, with a `main`."""
