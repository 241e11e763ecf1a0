"""What is wrong with a data set folder, what to do about it, and a report to look at."""
