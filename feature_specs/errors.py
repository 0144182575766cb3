"""The exceptions that a user can cause: shown as one line, without a stack trace."""


class UserError(Exception):
    """What was given cannot be used; the message says what was given, what is allowed and what to do."""


class DataError(UserError):
    """A data file, a data directory or a manifest cannot be used; the message names the file."""


class ConfigError(UserError):
    """A setting is unknown, out of range or contradicts another one."""
