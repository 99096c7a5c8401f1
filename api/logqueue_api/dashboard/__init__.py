"""The dashboard: static files served at `/` and `/dashboard/`; no build step, nothing from elsewhere."""
