"""What watcher remembers: releases, looks, evidence and the outbox, in one SQL store.

A look is recorded in a single transaction together with the actions it decided, so that an intent is durable
before its effect and nothing is ever half written.

| table          | one row is                                                      | kept                       |
|----------------|-----------------------------------------------------------------|----------------------------|
| `releases`     | a release: its watch, whether it is active, how it ended        | for ever                   |
| `calibrations` | what was learnt of a rule before exposure, frozen               | for ever                   |
| `looks`        | a look: outcome and reason to list, and the whole look as JSON  | 30 days; the last for ever |
| `states`       | the evidence of a rule as of its latest look                    | 30 days                    |
| `blocks`       | a block of a rule that was counted                              | 30 days                    |
| `streams`      | the number of a rule's stream                                   | 30 days                    |
| `units`        | the number of a rule's unit in one arm                          | 30 days                    |
| `layouts`      | the number of a rule's bucket edges                             | 30 days                    |
| `observations` | the counts of a stream and unit in a block                      | 30 days                    |
| `actions`      | a kill, an alert, or an alert's delivery by one alerter         | for ever                   |
| `audit`        | something that happened, and to which release                   | for ever                   |
| `memory`       | a JSON value by key: flags last seen, pauses, holds             | until replaced             |
| `meta`         | the version of this schema                                      | for ever                   |

Days count from the end of a release, when `Journal.prune` is called. SQLite (WAL, synchronous=FULL) by default,
PostgreSQL by URL. Times are epoch seconds, given by the caller.

Where what is: `store` is the journal, one transaction a method; `outbox` the rows of `actions`; `cells` observations
as rows and back; `codec` the JSON of text columns; `tables` the schema; `opening` URLs, engines and transactions;
`holding` the lock that lets one daemon act.
"""

from __future__ import annotations

from watcher.journal.holding import Hold, Sole
from watcher.journal.records import LEASE, AuditLine, Listed, LookLine, Pending, Tally, Watched
from watcher.journal.store import KEEP, Journal
from watcher.journal.tables import SCHEMA

__all__ = [
    "KEEP",
    "LEASE",
    "SCHEMA",
    "AuditLine",
    "Hold",
    "Journal",
    "Listed",
    "LookLine",
    "Pending",
    "Sole",
    "Tally",
    "Watched",
]
