"""The HTTP API: jobs in, states out. FastAPI over the view and one producer; top of the graph."""
