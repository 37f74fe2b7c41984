"""What became of messages: told by the central database and the mailboxes together, read and never written."""
