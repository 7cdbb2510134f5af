"""`kdrun export`: a finished student in another file format, checked on the test part."""
