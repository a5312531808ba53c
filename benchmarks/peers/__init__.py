"""The servers that newsdesk is measured against, each as its own documentation sets it up."""
