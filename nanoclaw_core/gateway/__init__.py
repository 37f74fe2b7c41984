"""The host's side of the workers' sockets: the link, the model, the actions."""
