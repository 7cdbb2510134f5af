"""What `scripts/gpu` does: everything that can only be checked or measured on a GPU."""
