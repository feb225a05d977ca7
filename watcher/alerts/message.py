"""What an alert says: its first words anywhere, and the whole of it as a Slack message, within every limit of Slack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from watcher.model import Alert, Button, Reply

HEADER, SECTION = 150, 3000
"""Characters of a header and of a section that Slack accepts."""
BODY, LINKS = 6000, 1500
"""Characters of lines and of links in a message. Slack refuses blocks beyond about 12,000 in all, markup included."""
VALUE = 2000
"""Characters of what a button carries."""
TEXT = 3000
"""Characters of the text for notifications. Slack accepts 40,000 in a message, but only 4,000 in an edit."""

_EMOJI = {
    "watching": "👀", "healthy": "✅", "regressed": "🔴", "global_event": "🌐", "killed": "⛔",
    "kill_failed": "🚨", "recovered": "💚", "unrecovered": "🚨", "no_data": "⚪", "invalid": "🟠", "ended": "🏁",
    "kill_delayed": "🚨", "turned_on": "🚨", "turned_off": "⛔", "raised": "⏫", "not_raised": "🟠", "latched": "🚨",
    "not_recording": "🚨", "unwatched": "🟠",
    "everyone": "🏁", "superseded": "🏁", "stopped": "🏁", "preflight": "📋",
}  # fmt: skip
_COLOURS = {
    **dict.fromkeys(("regressed", "killed", "kill_failed", "kill_delayed", "unrecovered", "turned_on"), "#d55e00"),
    **dict.fromkeys(
        ("global_event", "invalid", "not_raised", "no_data", "latched", "not_recording", "unwatched"), "#e69f00"
    ),
    **dict.fromkeys(("healthy", "recovered", "raised"), "#009e73"),
    **dict.fromkeys(("watching", "preflight", "started", "test"), "#0072b2"),
}
"""The bar beside a message, after Okabe and Ito (2008): harm, trouble, well, under way; grey is what is over."""
_OVER = "#8c959f"

_BUTTONS: Final[Mapping[Button, str]] = {
    "kill": "Turn it off",
    "accept": "Accept as intended",
    "silence": "Silence for 1 h",
    "acknowledge": "I am looking",
}
_DONE: Final[Mapping[Button, str]] = {
    "kill": "Turned off by hand",
    "accept": "Accepted as intended",
    "silence": "Silenced",
    "acknowledge": "Being looked at",
}
ACTION: Final = "watcher:"
"""What the names of watcher's own buttons begin with."""

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def first_words(alert: Alert) -> str:
    """Return the first line of an alert: what the release is now, then the title.

    >>> first_words(Alert("k", "shop/production/cart@2", "headline", "no_data", "cart 2 sends nothing"))
    '⚪ No data: cart 2 sends nothing'
    """
    state = alert.state.replace("_", " ")
    state = state[:1].upper() + state[1:]
    said = not state or alert.title.casefold().startswith(state.casefold())
    return " ".join(f"{_EMOJI.get(alert.state, '🔵')} {'' if said else f'{state}: '}{alert.title}".split())


def message(alert: Alert, mention: str | None = None, clickable: bool = False) -> dict[str, Any]:
    """Return `text` (for notifications and screen readers), `blocks` and `attachments`, within every limit of Slack.

    What does not fit is dropped by whole lines, and the last line says how many; a line beyond a section is cut. The
    last line stands beside a bar in the colour of the state: only attachments have one, and Slack folds long ones.

    Args:
        alert: what to say.
        mention: whom to call, as Slack writes it.
        clickable: whether buttons would be heard.
    """
    first = first_words(alert)
    # A header is plain text: nothing in it is markup, nothing needs escaping.
    header = first if len(first) <= HEADER else first[: HEADER - 1] + "…"
    lines = [escape(line, SECTION - 100) for line in alert.lines if line.strip()]
    if header != first:
        lines.insert(0, escape(first, SECTION - 100))
    blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": header, "emoji": False}}]
    links = _fit([_link(name, url) for name, url in alert.links], LINKS)
    done = _fit([_replied(each) for each in alert.replies], LINKS)
    for text in (mention, *_sections(_fit(lines, BODY)), "\n".join(done), " · ".join(links)):
        if text:
            blocks.append({"type": "section", "text": _mrkdwn(text)})
    if clickable and alert.buttons:
        elements = [_button(each, alert) for each in alert.buttons]
        blocks.append({"type": "actions", "block_id": f"{ACTION}{alert.state}", "elements": elements})
    footer = " · ".join(filter(None, (escape(alert.release, 500), _date(alert.at))))
    foot = [{"type": "context", "elements": [_mrkdwn(footer)]}] if footer else []
    text = "\n".join(_fit([escape(first, TEXT // 2), *lines], TEXT))
    bar = {"color": _COLOURS.get(alert.state, _OVER), "fallback": escape(first, TEXT // 2), "blocks": foot}
    return {"text": text, "blocks": blocks, "attachments": [bar] if foot else []}


def _button(what: Button, alert: Alert) -> dict[str, Any]:
    """Return a button that carries the release it is about."""
    made: dict[str, Any] = {
        "type": "button",
        "action_id": ACTION + what,
        "text": {"type": "plain_text", "text": _BUTTONS[what]},
        "value": alert.release[:VALUE],
    }
    if what == "kill":
        made["style"] = "danger"
        made["confirm"] = {
            "title": {"type": "plain_text", "text": "Turn it off?"},
            "text": {"type": "plain_text", "text": _cut(f"Users are taken off {alert.release}, at once.", 300)},
            "confirm": {"type": "plain_text", "text": "Turn it off"},
            "deny": {"type": "plain_text", "text": "Leave it"},
            "style": "danger",
        }
    return made


def _replied(reply: Reply) -> str:
    """Return who did what when, in the place of a button."""
    by = f"<@{reply.by}>" if re.fullmatch("[UW][A-Z0-9]{2,20}", reply.by) else escape(reply.by, 100)
    until = "" if reply.until is None else f", until {_date(reply.until)}"
    reason = f": {escape(reply.reason, 300)}" if reply.reason else ""
    return f"{_DONE[reply.what]} by {by}, {_date(reply.at)}{until}{reason}"


def accepting(release: str) -> dict[str, Any]:
    """Return the dialog that asks why harm is intended; its answer comes back with the release it is about."""
    return {
        "type": "modal",
        "callback_id": f"{ACTION}accept",
        "private_metadata": release[:VALUE],
        "title": {"type": "plain_text", "text": "Accept as intended"},
        "submit": {"type": "plain_text", "text": "Accept"},
        "close": {"type": "plain_text", "text": "Cancel"},
        "blocks": [
            {"type": "section", "text": _mrkdwn(f"What is worse now in {escape(release, 500)} no longer counts.")},
            {
                "type": "input",
                "block_id": "reason",
                "label": {"type": "plain_text", "text": "Why is this intended?"},
                "element": {"type": "plain_text_input", "action_id": "reason", "max_length": 200},
            },
        ],
    }


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escape(text: str, limit: int) -> str:
    """Return text that Slack shows as it stands (a label value must not call `<!channel>`), cut at `limit`.

    >>> escape("a<b & c", 100), escape("a<b & c", 6)
    ('a&lt;b &amp; c', 'a&lt;…')
    """
    escaped = [_ESCAPES.get(char, char) for char in text]
    if sum(map(len, escaped)) <= limit:
        return "".join(escaped)
    kept, used = [], 1
    for piece in escaped:
        used += len(piece)
        if used > limit:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def _fit(lines: list[str], limit: int) -> list[str]:
    """Return the first lines that fit into `limit` characters, and a line that counts the others."""
    if sum(len(line) + 1 for line in lines) <= limit:
        return lines
    kept, used = [], 30  # room for the last line
    for line in lines:
        used += len(line) + 1
        if used > limit:
            break
        kept.append(line)
    return [*kept, f"… and {len(lines) - len(kept)} more"]


def _sections(lines: list[str]) -> list[str]:
    """Join lines into as few texts of a section's length as whole lines allow."""
    texts: list[str] = []
    for line in lines:
        if texts and len(texts[-1]) + 1 + len(line) <= SECTION:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line)
    return texts


def _link(name: str, url: str) -> str:
    target = url.translate({ord("|"): "%7C", ord("<"): "%3C", ord(">"): "%3E", ord(" "): "%20"}).replace("&", "&amp;")
    return f"<{target}|{escape(name, 100)}>"


def _date(at: float) -> str:
    """Return a time that every reader sees in their own time zone."""
    if not at:
        return ""
    return f"<!date^{int(at)}^{{date_short_pretty}} {{time}}|{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M UTC}>"


def _mrkdwn(text: str) -> dict[str, Any]:
    # Verbatim: Slack looks for no links or channel names of its own in it.
    return {"type": "mrkdwn", "text": text, "verbatim": True}
