"""The coordinator: a Flower ServerApp that runs rounds, and the sequencer of their blocks."""
