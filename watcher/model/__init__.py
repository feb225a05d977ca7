"""The nouns of watcher: what flows from a source to an action.

Everything here is a frozen value. Times are epoch seconds (UTC); durations are seconds; shares and relative
margins are fractions. Arrays are float64. This module imports nothing of ours.

`words` are the kinds of things there are; `exposures`, `selectors`, `watch`, `observations`, `calibration`, `verdict`
and `look` the things themselves, in the order in which they come up.
"""

from __future__ import annotations

from watcher.model.calibration import PER_STREAM, Calibration, as_streams
from watcher.model.exposures import SAME_SHARE, Deployment, Exposure, SwitchState
from watcher.model.look import BY_HAND, Action, Alert, Button, Kill, Look, Promote, Reach, Refusal, Reply
from watcher.model.observations import NO_SAMPLES, Arm, Observations
from watcher.model.selectors import Matcher, Selector, parse_matchers
from watcher.model.verdict import Effect, Needs, QuantileShift, ReleaseVerdict, Tally, Verdict
from watcher.model.watch import UNSETTLED, Alpha, Release, Request, Rule, Split, Stage, Target, Watch
from watcher.model.words import Design, Flags, Floats, Kind, Labels, Mode, Outcome, Strategy, Worse, labels

__all__ = [
    "BY_HAND",
    "NO_SAMPLES",
    "PER_STREAM",
    "SAME_SHARE",
    "UNSETTLED",
    "Action",
    "Alert",
    "Alpha",
    "Arm",
    "Button",
    "Calibration",
    "Deployment",
    "Design",
    "Effect",
    "Exposure",
    "Flags",
    "Floats",
    "Kill",
    "Kind",
    "Labels",
    "Look",
    "Matcher",
    "Mode",
    "Needs",
    "Observations",
    "Outcome",
    "Promote",
    "QuantileShift",
    "Reach",
    "Refusal",
    "Release",
    "ReleaseVerdict",
    "Reply",
    "Request",
    "Rule",
    "Selector",
    "Split",
    "Stage",
    "Strategy",
    "SwitchState",
    "Tally",
    "Target",
    "Verdict",
    "Watch",
    "Worse",
    "as_streams",
    "labels",
    "parse_matchers",
]
