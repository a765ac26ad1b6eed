"""What is built on Kafka's Java clients and keeps its state in topics: each begins anew with what it wrote before."""
from . import connect, schemas, streams

CELLS = {**connect.CELLS, **streams.CELLS, **schemas.CELLS}
