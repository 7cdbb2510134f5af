"""`kdrun tune`: a search for the setting that does best on validation. Only this package knows Optuna."""
