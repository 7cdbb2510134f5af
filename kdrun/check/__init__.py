"""`kdrun check`: the dry run."""
