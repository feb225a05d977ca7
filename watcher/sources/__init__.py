"""Where metrics come from: each source turns what it reads into raw counts of closed blocks, per stream and unit."""
