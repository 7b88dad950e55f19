"""The one database of a deployment: SQLite unless told, PostgreSQL by URL, brought up to date by migrations."""
