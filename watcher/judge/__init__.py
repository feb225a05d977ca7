"""Evidence to Verdict, per stream and per release; and how the error budget is shared.

A release may be called regressed by any stream of any rule, so these share alpha by weighted Bonferroni. It is
healthy only if every focus stream of every required rule is, so these need no correction (intersection-union,
Berger 1982, Technometrics 24).
"""

from watcher.judge.release import ORDER, judge_release, judge_split
from watcher.judge.streams import judge, shares, thresholds

__all__ = ["ORDER", "judge", "judge_release", "judge_split", "shares", "thresholds"]
