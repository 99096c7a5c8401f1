"""Which of the jobs that could run is next: priority classes, fair shares of tenants, limits, pauses. No IO."""
