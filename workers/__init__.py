"""What wraps a server so that its workers record: one file for each kind of server."""
