"""Ways in and out of the log: tables of databases, brokers of AMQP, CloudEvents."""
