"""Constants of the entry point and the commands; this module imports nothing."""

WIDEST = 120  # columns of help
INTERRUPTED = 130  # exit code after Ctrl-C
COMPLETE = "_PIXTOOLS_COMPLETE"  # variable that a shell sets to ask for completions
