"""The shells of the coordinators: what the machines decide is written, answered and woken here."""
