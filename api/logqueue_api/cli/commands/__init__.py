"""The commands: each file offers `add_arguments(parser)` and `run(options) -> int`, imported only when it runs."""
