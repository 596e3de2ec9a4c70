"""What the entry point and the commands have in common; loads nothing."""

WIDEST = 120  # columns of help
INTERRUPTED = 130  # exit code after Ctrl-C
COMPLETE = "_PIXTOOLS_COMPLETE"  # variable that a shell asks with
