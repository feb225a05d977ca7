"""The statistics: one method a file, vectorised over streams, incremental over blocks, pure.

Every method offers the same verbs: `start` an evidence state for a number of streams, `fold` closed blocks into it, and
take a `snapshot` of what the state says; those for two arms also `restage` it when exposure changes, and are `scaled`
by what their units may cause. Log e-values are in nats.
"""
