"""The stages of a build, one a module: functions from artifacts and settings to an artifact."""
