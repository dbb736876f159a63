"""The command line: typed arguments → a checked config → named arguments of the work; errors → one line."""
