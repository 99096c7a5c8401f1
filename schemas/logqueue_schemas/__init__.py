"""What is in the job topics: Avro contracts and their framing."""
