"""Pictures that visitors send: read in a process apart, kept for a while under random names, seen by their owner."""
