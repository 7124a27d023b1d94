"""The one exception that the command line turns into a one-line message."""


class UserError(ValueError):
    """Something the caller gave is wrong; the message says what was expected and what was received.

    The command line prints the message alone and exits with code 2. Any other exception is a fault of ours or of the
    pipeline's own code and keeps its traceback.
    """
