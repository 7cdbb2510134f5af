"""Data sets as tensors: where they come from, their parts and labels, and the views that augment."""
