"""newsdesk.build.package: what leaves a build: the model repository, its card, and the archive for a Jetson."""
