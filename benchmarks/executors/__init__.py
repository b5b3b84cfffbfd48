"""What carries out runs, one file each: base.py has the protocol."""
