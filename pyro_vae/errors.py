"""The one exception that means "the input was wrong", as opposed to "the program is"."""


class InputError(ValueError):
    """Wrong input. The message is one line that names the argument and the remedy.

    The experiment scripts print it and end with exit code 2; in a notebook it is raised as is.
    """
