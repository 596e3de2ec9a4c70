"""What the entry point and the commands have in common; loads nothing."""

WIDEST = 120  # columns of help
COMPLETE = "_PIXTOOLS_COMPLETE"  # variable that a shell asks with
