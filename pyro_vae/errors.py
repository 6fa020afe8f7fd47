"""The one exception that means "the input was wrong", as opposed to "the program is"."""


class InputError(ValueError):
    """Wrong input. The message is one line that names the argument and the remedy.

    The experiment scripts print it and end with exit code 2; in a notebook it is raised as is.
    """


def check_counts(**counts: object) -> None:
    """Raise InputError unless each of the named values is a whole number >= 1."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number >= 1, not {value!r}")
