"""What is written down of every study, and whether it still is what the model was released on."""
