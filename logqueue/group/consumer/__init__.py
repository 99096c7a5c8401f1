"""Consumer groups (KIP-848): the coordinator assigns, members report. Imported when the first one comes."""
