"""newsdesk.build.package.jetson: one archive that takes a model to a Jetson, where its engines are built."""
