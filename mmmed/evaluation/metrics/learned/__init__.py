"""Figures that need a model's weights to judge a text: each is a file in `configs/metric/`, read when asked for."""
