"""Why a record cannot be used: it is left out and counted, or its table lacks a column."""


class LeftOutError(Exception):
    """A record gives no example; the message is the reason, under which records are counted."""


class NoColumnError(Exception):
    """A record lacks a column that its task needs; the message is the column or the part."""
