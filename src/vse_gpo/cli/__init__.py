"""The command line: what was typed → a checked config → named arguments of the work; errors → one line."""
