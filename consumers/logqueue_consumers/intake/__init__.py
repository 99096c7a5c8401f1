"""From fetched records to jobs in hand."""
