"""The one exception that is a user's to mend."""


class InputError(ValueError):
    """Something a user gave breaks a rule; the message is one line with the rule and the value.

    The command line prints it and exits with 2; every other exception is a fault of ours.
    """
