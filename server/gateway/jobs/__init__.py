"""Jobs: files that outlast a connection, answered behind everybody else and kept on disk meanwhile."""
