"""Many people's questions to one model: in order of arrival, written side by side, and refused when too many wait."""
