"""The command line: every command parses, calls public functions, and prints."""
