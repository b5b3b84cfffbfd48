"""What listens to runs, one file each: base.py has the protocol."""
