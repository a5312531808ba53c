"""One reader of rows for the command line, the gateway and the build: CSV, JSON Lines, Parquet and lines of text.

What cannot be read of a row is said of that row alone. What cannot be read of a file is a RowsError.
"""

from newsdesk.clients.rows.errors import RowsError, UnknownKind, Words
from newsdesk.clients.rows.reader import Reader, as_sent
from newsdesk.clients.rows.recognise import Form
from newsdesk.clients.rows.row import FileRow, RowRefusal

__all__ = ["FileRow", "Form", "Reader", "RowRefusal", "RowsError", "UnknownKind", "Words", "as_sent"]
