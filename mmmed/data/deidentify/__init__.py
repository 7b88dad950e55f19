"""Removing what identifies a person: from texts, from DICOM headers, from pixels; and the gate that applies all three.

The eighteen identifiers are those of HIPAA's Safe Harbor rule, 45 CFR 164.514(b)(2)(i).
"""
