"""Why one record is not used: it is left out and counted, or its table lacks a column."""


class LeftOutError(Exception):
    """A record that gives no example; its message is the reason, under which it is counted."""


class NoColumnError(Exception):
    """A record without a column that its task needs; its message is the column or the part."""
