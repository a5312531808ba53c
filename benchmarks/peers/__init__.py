"""The servers that newsdesk is measured against, each in its own environment and as its documentation sets it up."""
