"""What is wrong, or will be, with a data folder, its machine and its settings. Looks only; mends nothing."""
