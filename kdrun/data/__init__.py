"""Data sets as tensors: what they are read from, their parts and labels, and the views that augment."""
