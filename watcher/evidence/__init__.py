"""The statistics: one method a file, vectorised over streams, incremental over blocks, pure.

Every method offers the same three verbs: `start` an evidence state for a number of streams, `fold` closed blocks
into it, and take a `snapshot` of what the state says. Log e-values are in nats.
"""
