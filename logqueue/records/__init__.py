"""Record batches (format v2): bytes <-> batches. No IO."""
