"""What a run will train, worked out and checked; it trains and writes nothing."""
