"""Who may do what, and how much: mechanisms, ACLs and quotas as pure machines. Knows no socket, file, clock or loop."""
