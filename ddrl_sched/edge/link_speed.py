"""The speed that a link of a network file states, in any form of the Internet Topology Zoo."""

import re
from collections.abc import Mapping

from ddrl_sched.config import InputError, shown

LARGEST_BPS = 1e15
ROUNDING = 0.03  # forms that differ by less say the same: OC-48 is called 2.5 Gbps, T1 1.5 Mbps

MAX_LABEL = 200  # characters of a label that are looked at

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BIT = r"(?:bits?(?:/s(?:ec)?|ps)?|bps|b/s(?:ec)?|b)"
_UNIT = re.compile(rf"([kKmMgGtT]?){_BIT}?|([kKmMgGtT])(?:Bit/s|Bits)")
_ETHERNET = {"gigabitethernet": 1e9, "gige": 1e9, "gbe": 1e9, "fastethernet": 1e8}
_LINES = {
    "ds0": 64e3, "ds1": 1.544e6, "ds2": 6.312e6, "ds3": 44.736e6, "t1": 1.544e6, "t2": 6.312e6, "t3": 44.736e6,
    "e1": 2.048e6, "e2": 8.448e6, "e3": 34.368e6, "e4": 139.264e6,
}  # fmt: skip
_STEPS = {"oc": 51.84e6, "sts": 51.84e6, "stm": 155.52e6}
_COUNT = r"(?<![\w.])(?:(?P<count>\d+)\s*[xX×*]\s*)?"
_RATE = re.compile(
    rf"{_COUNT}(?P<number>\d*\.?\d+)\s*-?\s*"
    rf"(?:(?P<bare>[kKMGgT])|(?P<unit>[kKmMgGtT])(?:{_BIT}|Bits?(?:/s|ps)?|E|ig|igE|bE)"
    r"|(?P<long>[Kk]ilo|[Mm]ega|[Gg]iga|[Tt]era)-?[Bb]its?(?:/s| per second)?)(?!\w)"
)
_STEP = re.compile(rf"{_COUNT}(?P<step>oc|sts|stm)[- ]?(?P<number>\d+)c?(?![\w.])", re.IGNORECASE)
_LINE = re.compile(rf"{_COUNT}(?P<line>ds-?[0-3]|t-?[1-3]|e-?[1-4])(?![\w.])", re.IGNORECASE)
_NAME = re.compile(
    rf"{_COUNT}(?<!\d )(?<!\d-)(?P<name>gigabit[- ]?ethernet|gige|gbe|fast[- ]?ethernet)(?!\w)", re.IGNORECASE
)
_UNCLEAR = re.compile(  # bytes? metres? bit/s without a prefix
    r"\d\s*(?:[kKMGT]B(?:/s|ps)?|[mt])(?!\w)|\dG?BASE|\d\s*(?:bps|bits?/s|b/s|bits? per second)(?!\w)"
)
_UNCLEAR_BEFORE = re.compile(
    r"(?:[<>~≤≥±]|\d\s*(?:[-–/]|to|or|and)?|\d,|\b[a-z]\s*[x×*]"
    r"|\b(?:up to|max\.?|min\.?|about|at least|at most|less than|more than|over|under"
    r"|dual|twin|double|half|one|two|three|four|five|six|eight|ten|forty|hundred))[\s-]*$",
    re.IGNORECASE,
)
_UNCLEAR_AFTER = re.compile(r"\s*(?:\+|(?:[A-Za-z]+\s+){0,2}[xX×*]\s*\d|[-–/]\s*\d)")


def stated_bps(link: Mapping[str, object], where: str) -> float | None:
    """Bit/s of a link: LinkSpeedRaw, else LinkSpeed with LinkSpeedUnits, else its label; None where none is stated.

    A label is free text: one without a speed states none. `where` names the link in errors. Raises InputError (not one
    clear number, in (0, 1e15] bit/s; forms that contradict each other).
    """
    raw = _stated_number(link, "LinkSpeedRaw", where)
    stated = {"LinkSpeedRaw": raw, "LinkSpeed": _with_units(link, raw, where)}
    numbers = {key: bps for key, bps in stated.items() if bps is not None}
    for key, bps in numbers.items():
        if not 0 < bps <= LARGEST_BPS:
            raise InputError(f"{where}: {key} must be a number in (0, 1e15] (bit/s), got {shown(link[key])}")
    if len(numbers) == 2 and not _same(*numbers.values()):
        text = ", ".join(f"{key} {shown(link[key])}" for key in (*stated, "LinkSpeedUnits") if key in link)
        raise InputError(f"{where}: contradicts itself: {text}")
    return _with_labels(link, next(iter(numbers.values()), None), where)


def number(value: object) -> float | None:
    """A number of a network file, also one that stands there as text; None if it is not one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    plain = re.fullmatch(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*", value, re.ASCII)
    return float(value) if plain else None


def _stated_number(link: Mapping[str, object], key: str, where: str) -> float | None:
    if link.get(key, "") == "":
        return None
    value = number(link[key])
    if value is None:
        wanted = "a number in (0, 1e15] (bit/s)" if key == "LinkSpeedRaw" else "one number"
        raise InputError(f"{where}: {key} must be {wanted}, got {shown(link[key])}")
    return value


def _with_units(link: Mapping[str, object], raw: float | None, where: str) -> float | None:
    speed = _stated_number(link, "LinkSpeed", where)
    units = link.get("LinkSpeedUnits", "")
    if speed is None and (units == "" or raw is not None):
        return None
    if speed is None:
        raise InputError(f"{where}: LinkSpeedUnits {shown(units)} stands without LinkSpeed")
    if units == "" and raw is not None:  # the unit that fits, if one does
        return next((speed * unit for unit in _UNITS.values() if _same(raw, speed * unit)), speed)
    found = _UNIT.fullmatch(units.strip()) if isinstance(units, str) and units.strip() else None
    if not found:
        raise InputError(f"{where}: LinkSpeed needs LinkSpeedUnits k, K, M, G or T (bit/s), got {shown(units)}")
    return speed * _UNITS[(found[1] or found[2] or "").lower()]


def _with_labels(link: Mapping[str, object], bps: float | None, where: str) -> float | None:
    """`bps`, or what the labels state. A speed in a label that stands beside another form must agree with it."""
    for key in ("LinkLabel", "label"):
        texts = link.get(key, "")
        for text in texts if isinstance(texts, list) else [texts]:
            speeds, clear = _label_bps(str(text)[:MAX_LABEL], lines=key == "LinkLabel")
            if bps is not None and speeds and not any(_same(bps, speed) for speed in speeds):
                raise InputError(f"{where}: {key} {shown(text)} contradicts the {bps / 1e6:.12g} Mbit/s stated beside")
            if bps is None and not clear:
                raise InputError(f"{where}: {key} {shown(text)} is not one clear speed; write LinkSpeedRaw (bit/s)")
            bps = speeds[0] if bps is None and speeds else bps
    return bps


def _label_bps(text: str, lines: bool) -> tuple[list[float], bool]:
    """Speeds in a label, bit/s, and whether they are no range and all the same.

    lines: also names such as T1 and E3, which in a plain `label` may be names of links.
    """
    forms = (_RATE, _STEP, _NAME, *((_LINE,) if lines else ()))
    number_only = lines and number(text) is not None
    speeds, clear, end = [], not number_only and not _UNCLEAR.search(text), 0
    for found in sorted((found for form in forms for found in form.finditer(text)), key=re.Match.start):
        speeds.append(_speed(found.groupdict()))
        unclear = _UNCLEAR_BEFORE.search(text[end : found.start()]) or _UNCLEAR_AFTER.match(text, found.end())
        clear = clear and not unclear and 0 < speeds[-1] <= LARGEST_BPS
        end = found.end()
    return speeds, clear and all(_same(speeds[0], speed) for speed in speeds)


def _speed(named: dict[str, str | None]) -> float:
    count = float(named["count"] or 1)
    if named.get("name"):
        return count * _ETHERNET[re.sub("[- ]", "", str(named["name"]).lower())]
    if named.get("line"):
        return count * _LINES[str(named["line"]).lower().replace("-", "")]
    if named.get("step"):
        return count * float(str(named["number"])) * _STEPS[str(named["step"]).lower()]
    unit = named["bare"] or named["unit"] or str(named["long"])[0]
    return count * float(str(named["number"])) * _UNITS[unit.lower()]


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= ROUNDING * max(abs(a), abs(b))
