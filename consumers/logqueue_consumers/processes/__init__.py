"""Handlers in processes of their own: `@app.job(isolation="process")`. A bounded pool, one job at a time in each."""
