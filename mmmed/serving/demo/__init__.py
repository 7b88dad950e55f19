"""The page on which a model is asked about pictures, and what it is asked by."""
