"""`kdrun export`: a finished student as a file of another kind, checked by use."""
