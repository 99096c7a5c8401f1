"""How people reach logqueue: REST, live pages, command line."""
