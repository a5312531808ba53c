"""A user's few hundred rows: newsdesk's recipe `own` beside what a user would write in three lines."""
