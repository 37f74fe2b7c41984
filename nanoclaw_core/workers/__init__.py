"""Workers: a container for each conversation that has something to do, from its first waiting row to its idle end."""
