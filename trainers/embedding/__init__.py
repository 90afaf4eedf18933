"""Feature vectors of any data by any encoder, in memory or in a file."""
