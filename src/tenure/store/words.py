"""Text as stems, by the very tokenizer that the index would use (SQLite's porter over unicode61).

A scope's words are kept apart in one index by a number before each (`17q` + stem), so that no scope's texts weigh in
another's ranking. Knows no memory. Called by memories.py; context/ may compare texts with it.
"""

from __future__ import annotations

import sqlite3
import threading


class Words:
    """Cuts text into stems. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # An index of one text, in memory, read back through its vocabulary: SQLite has no other door to its stemmer.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.execute("CREATE VIRTUAL TABLE one USING fts5 (body, tokenize = 'porter unicode61')")
        self._connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab (one, 'instance')")

    def stems(self, text: str) -> list[str]:
        """The stems of a text in its order, lower-case and without diacritics; [] when it has no letter or digit."""
        # SQLite ends a text at NUL, and has no bytes for half a surrogate pair.
        clean = text.replace("\0", " ").encode("utf8", "ignore").decode("utf8")
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                self._connection.execute("INSERT INTO one (body) VALUES (?)", (clean,))
                rows = self._connection.execute("SELECT term, offset FROM vocabulary").fetchall()
            finally:
                self._connection.execute("ROLLBACK")
        return [term for term, _ in sorted(rows, key=lambda row: row[1])]

    def close(self) -> None:
        """Free the memory. Idempotent."""
        self._connection.close()
