"""newsdesk.build.members: classifier families, what differs between them and nothing else."""
