"""The release checklist, executed: what stands against a release before users see it, line by line, with what to do.

`run` goes through it for a release that begins or that only might; nothing is changed on the way. What is read is read
once (`turning`: the kill switch; `measured`: the metrics), and every check is a function from that to lines.

| check      | asks                                                            | in           |
|------------|-----------------------------------------------------------------|--------------|
| `rollback` | can users be taken off without redeploying                      | `rollback`   |
| `disable`  | is there a feature that turning off would change                | `rollback`   |
| `exposure` | who sees the new version, and do the arms get their shares      | `exposure`   |
| `metrics`  | are the rules about users, or about servers (`server_health`)   | `metrics`    |
| `data`     | do the rules have data, and enough history                      | `data`       |
| `stream`   | is the released feature measured by any of them                 | `stream`     |
| `effect`   | what harm can be found, and how soon, as `watcher plan` has it  | `effect`     |
| `people`   | is anybody told                                                 | `people`     |
"""

from __future__ import annotations

from watcher.preflight.asked import Said, asked
from watcher.preflight.checklist import run
from watcher.preflight.telling import alert
from watcher.report.preflight import Line, Preflight

__all__ = ["Line", "Preflight", "Said", "alert", "asked", "run"]
