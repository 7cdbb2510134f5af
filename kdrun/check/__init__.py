"""`kdrun check`: a run before it starts."""
