"""What can go wrong with a trace store.

TraceStoreError            anything below
  SchemaTooNew             the database was written by a newer version; nothing was touched
  StoreInUse               another engine holds the data directory
  StoreUnavailable         no such store, or it cannot be read or written now
  QueryError (ValueError)  a filter, cursor or query that means nothing; the message names the part
"""

from __future__ import annotations


class TraceStoreError(Exception):
    """Base of every error of the trace store."""


class SchemaTooNew(TraceStoreError):
    """The database was written by a newer version of opentracy."""


class StoreInUse(TraceStoreError):
    """Another engine runs on this data directory."""


class StoreUnavailable(TraceStoreError):
    """The store does not exist, or cannot be read or written."""


class QueryError(TraceStoreError, ValueError):
    """A filter, cursor or query that cannot be understood."""
