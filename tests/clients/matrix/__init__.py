"""The client matrix: real Kafka clients against one broker."""
