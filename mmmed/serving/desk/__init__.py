"""Sign-off: what a model drafts is reviewed, amended, signed or rejected by named people, and every step is kept."""
