"""Audits of a checkpoint: what is measured, against which limit, and what was not shown."""
