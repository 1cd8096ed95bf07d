"""One timestamp of ISO 8601, in its basic or extended form, as nanoseconds since 1970."""

import re
from datetime import date

COMMON = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?"  # of many files
AWARE = r"[Tt ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"  # texts with a time zone
DAY_S = 86_400
_DATE = r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
_CLOCK = r"(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d))?)?(?:[.,](?P<fraction>\d+))?"
_ZONE = r"(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?"
_STAMP = re.compile(rf"{_DATE}(?:[Tt ]{_CLOCK}{_ZONE})?", re.ASCII)
_OTHERS = {"week": r"\d{4}-?W\d\d(?:-?\d)?", "ordinal": r"\d{4}-?\d{3}"}


def iso_ns(text: str) -> int:
    """Nanoseconds since 1970 of a timestamp, without a zone as if in UTC; 24:00 and :60 are the next day and minute.

    Raises ValueError with the reason, where there is more to say than that it is none.
    """
    found = _STAMP.fullmatch(text)
    if found is None:
        for kind, form in _OTHERS.items():
            if re.fullmatch(rf"{form}(?:[Tt ].*)?", text, re.ASCII):
                raise ValueError(f"{kind} dates are not read: write 2024-05-10")
        raise ValueError
    part = found.groupdict()
    days = date(int(part["year"]), int(part["month"]), int(part["day"])).toordinal() - date(1970, 1, 1).toordinal()
    return days * DAY_S * 10**9 + _clock_ns(part) - _zone_s(part["zone"]) * 10**9


def _clock_ns(part: dict[str, str | None]) -> int:
    """Nanoseconds since midnight; a fraction is one of the last unit that is given."""
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    unit_s = 1 if part["second"] else 60 if part["minute"] else 3600
    fraction = part["fraction"] or "0"
    rest_ns = int(fraction[:18]) * unit_s * 10**9 // 10 ** len(fraction[:18])
    leap = second == 60 and minute == 59
    if hour > 24 or minute > 59 or (second > 59 and not leap) or (hour == 24 and minute + second + rest_ns > 0):
        raise ValueError("no such time of day")
    return ((hour * 60 + minute) * 60 + second) * 10**9 + rest_ns


def _zone_s(zone: str | None) -> int:
    """Seconds east of UTC."""
    if zone in (None, "Z", "z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("no such time zone")
    return (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60
