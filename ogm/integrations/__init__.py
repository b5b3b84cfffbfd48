"""Strategies in other people's trainers. Each module needs the library of its name, and is imported by itself."""
