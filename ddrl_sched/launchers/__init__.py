"""Where the jobs of a command run: the `launcher=` group. The engines are libraries: tasks in, reports out."""
