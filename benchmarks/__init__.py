"""Named workloads, each answering one question about speed: `python -m benchmarks` lists them."""
