"""What an alert says: its first words anywhere, and the whole of it as a Slack message, within every limit of Slack."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from watcher.model import Alert

HEADER, SECTION = 150, 3000
"""Characters of a header and of a section that Slack accepts."""
BODY, LINKS = 6000, 1500
"""Characters of lines and of links in a message. Slack refuses blocks beyond about 12,000 in all, markup included."""
TEXT = 3000
"""Characters of the text for notifications. Slack accepts 40,000 in a message, but only 4,000 in an edit."""

_EMOJI = {
    "watching": "👀", "healthy": "✅", "regressed": "🔴", "global_event": "🌐", "killed": "⛔",
    "kill_failed": "🚨", "recovered": "💚", "unrecovered": "🚨", "no_data": "⚪", "invalid": "🟠", "ended": "🏁",
    "kill_delayed": "🚨", "turned_on": "🚨", "turned_off": "⛔", "raised": "⏫", "not_raised": "🟠", "latched": "🚨",
    "not_recording": "🚨",
    "everyone": "🏁", "superseded": "🏁", "stopped": "🏁", "preflight": "📋",
}  # fmt: skip
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


def message(alert: Alert, mention: str | None = None) -> dict[str, Any]:
    """Return `text` (for notifications and screen readers) and `blocks`, within every limit of Slack.

    What does not fit is dropped by whole lines, and the last line says how many; a line beyond a section is cut.
    """
    first = first_words(alert)
    # A header is plain text: nothing in it is markup, nothing needs escaping.
    header = first if len(first) <= HEADER else first[: HEADER - 1] + "…"
    lines = [escape(line, SECTION - 100) for line in alert.lines if line.strip()]
    if header != first:
        lines.insert(0, escape(first, SECTION - 100))
    blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": header, "emoji": False}}]
    links = _fit([_link(name, url) for name, url in alert.links], LINKS)
    for text in (mention, *_sections(_fit(lines, BODY)), " · ".join(links)):
        if text:
            blocks.append({"type": "section", "text": _mrkdwn(text)})
    footer = " · ".join(filter(None, (escape(alert.release, 500), _date(alert.at))))
    if footer:
        blocks.append({"type": "context", "elements": [_mrkdwn(footer)]})
    text = "\n".join(_fit([escape(first, TEXT // 2), *lines], TEXT))
    return {"text": text, "blocks": blocks}


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
