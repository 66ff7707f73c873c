"""The documents of a task, from files, data sets or generated."""
