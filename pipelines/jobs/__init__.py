"""Jobs: each reads a run folder or makes one, does one thing, and writes what it found there."""
