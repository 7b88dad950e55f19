"""What people correct becomes what the next model learns from, and what it is tested on."""
