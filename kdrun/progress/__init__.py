"""Who is told how a training goes: screen, journal, loggers."""
