"""The phantom: chest films drawn by procedure, so that everything about them is known."""
