"""asgiref.server on many hosts: a gateway and any number of workers, on PostgreSQL."""

__version__ = "1.0.0"
