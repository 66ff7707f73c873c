"""The one error that a user can mend; everything else is a bug of ours and keeps its traceback."""


class WorkbenchError(Exception):
    """Something in the user's input or surroundings has to change; the message names it and says how.

    Pages show the message as it is, the command line prints it and exits with code 2.

        try:
            subject = workbench.load("no-such-model")
        except WorkbenchError as error:
            print(error)
    """
