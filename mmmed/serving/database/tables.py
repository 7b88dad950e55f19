"""What all tables of the database belong to."""

from sqlalchemy import MetaData

METADATA = MetaData()
"""Tables of all rooms of serving, each declared where it is used; migrations make them."""

NAME, TIME, DIGEST = 64, 32, 64
"""Lengths of a name, of a time as text, and of a SHA-256 digest in hexadecimal."""
