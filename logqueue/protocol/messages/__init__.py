"""One file per API, imported when that API is first used. Declarations only."""
