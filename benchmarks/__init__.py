"""Every claim about speed, measured beside its peer; each file is a script of its own."""
