"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime


def count_text(value: int) -> str:
    """A count in full.

    >>> count_text(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def short_count(value: int) -> str:
    """A count in at most four digits, with a unit.

    >>> [short_count(value) for value in (999, 15400, 7615616512)]
    ['999', '15.4 K', '7.62 B']
    """
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return str(value)


def bytes_text(number: int) -> str:
    """An amount of memory in three digits, with a unit.

    >>> [bytes_text(value) for value in (0, 1500, 20 * 2**20, 137 * 2**30, 1023 * 2**20)]
    ['0 B', '1.46 KiB', '20 MiB', '137 GiB', '0.999 GiB']
    """
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def number_text(value: float) -> str:
    """A loss or a learning rate in three digits; small ones with an exponent.

    >>> [number_text(value) for value in (5.0, 0.1234, 0.00064, 0)]
    ['5', '0.123', '6.4e-4', '0']
    """
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def duration_text(seconds: float) -> str:
    """A duration in its two largest units.

    >>> [duration_text(value) for value in (2.44, 192, 3840)]
    ['2.4 s', '3 min 12 s', '1 h 04 min']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share_text(share: float) -> str:
    """A share of the whole in percent; never rounded to nothing or to all.

    >>> [share_text(value) for value in (0, 0.00001, 0.3141, 0.99999, 1)]
    ['0 %', '<0.01 %', '31.4 %', '>99.9 %', '100 %']
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if share < 0.0001:
        return "<0.01 %"
    if share > 0.999:
        return ">99.9 %"
    return f"{share * 100:.{2 if share < 0.1 else 3}g} %"


def time_text(moment: str) -> str:
    """An ISO time to the minute, with its zone.

    >>> time_text("2026-01-01T11:58:00.123+00:00")
    '2026-01-01 11:58 UTC'
    """
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M %Z").rstrip()


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "check"), plural(2, "check")
    ('1 check', '2 checks')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size: tuple[int, int]) -> str:
    """A size as people say it, width first.

    >>> size_text((480, 1280))
    '1,280 × 480'
    """
    height, width = size
    return f"{width:,} × {height:,}"
