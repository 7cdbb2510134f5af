"""`kdrun tune`: a search for the setting that is best on validation. Only this package uses Optuna."""
