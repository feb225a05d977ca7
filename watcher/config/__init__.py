"""watcher.yaml and rule packs, as the rest of watcher sees them.

`load_installation` reads, `plan` turns a noticed release into a `Watch`. Every problem is a ConfigError with file, line
and dotted key.

| file         | as it is written    | as it is seen  | from there                                     |
|--------------|---------------------|----------------|------------------------------------------------|
| watcher.yaml | `installation_file` | `installation` | `planning`: the watch of a release             |
| `releases`   | `release_file`      | the same       | the same                                       |
| rules/*.yaml | `rule_pack_file`    | `rule_packs`   | the same module finds the packs that ship      |

`loading` leads from the first to the second. What neither may hold is read by `watcher.secrets`. Below them are
`quantities` (25m, 50%), `strict_yaml` (reading and checking a file) and `yaml_nodes` (its syntax).
"""

from __future__ import annotations

from watcher.config.installation import (
    LONG_PAST,
    HttpSettings,
    Installation,
    Metrics,
    Notice,
    PingSettings,
    ReleaseEntry,
    Service,
    SlackSettings,
)
from watcher.config.loading import load_installation
from watcher.config.planning import filled_key, filled_split, plan, switch_key
from watcher.config.quantities import (
    parse_duration,
    parse_interval,
    parse_margin,
    parse_moment,
    parse_share,
    parse_worse,
    parse_zone,
)
from watcher.config.rule_packs import RulePack, check_rules, describe, load_pack, load_rules, rule_pack_path

__all__ = [
    "LONG_PAST",
    "HttpSettings",
    "Installation",
    "Metrics",
    "Notice",
    "PingSettings",
    "ReleaseEntry",
    "RulePack",
    "Service",
    "SlackSettings",
    "check_rules",
    "describe",
    "filled_key",
    "filled_split",
    "load_installation",
    "load_pack",
    "load_rules",
    "parse_duration",
    "parse_interval",
    "parse_margin",
    "parse_moment",
    "parse_share",
    "parse_worse",
    "parse_zone",
    "plan",
    "rule_pack_path",
    "switch_key",
]
