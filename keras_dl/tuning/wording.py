"""How numbers, times and tables of a search are written, on the terminal and in its report."""


def number(value) -> str:
    """A score or a hyperparameter's value; four digits of a float, `-` for none.

    >>> number(0.123456), number(64), number("lstm"), number(None)
    ('0.1235', '64', 'lstm', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float | None) -> str:
    """Seconds as minutes and, from one on, hours.

    >>> clock(61), clock(3600), clock(None)
    ('1:01', '1:00:00', '-')
    """
    if seconds is None:
        return "-"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def last_line(message: str | None) -> str:
    """What a traceback ends in: the error itself."""
    return (message or "").strip().rpartition("\n")[2].strip()
