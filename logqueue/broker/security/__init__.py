"""Who a client is and what it may do and take: SASL, guards, quotas, and what of it is stored."""
