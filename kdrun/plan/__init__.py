"""From a checked configuration to the trainings of a run. This room trains and writes nothing."""
