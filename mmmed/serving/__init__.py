"""A checkpoint behind a page and an interface, with people in charge: what is sent out, and to whom it is shown."""
