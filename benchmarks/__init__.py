"""What is fast, measured against a baseline in the same run; one module per benchmark."""
