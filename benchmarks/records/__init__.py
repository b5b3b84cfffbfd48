"""What runs leave behind, and what a results folder holds."""
