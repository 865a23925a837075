"""Questions with gold, and the files and services they come from."""
