"""The version of the project, which every floor may name."""

VERSION = "0.1.0"
