"""newsdesk.build.ensemble: fit what combines members, on validation rows that no member was fitted on."""
