"""The central database: who there is, which chats agents hear, which sessions and workers exist.

Importing this package costs nothing; `store.database` and the modules beside it import SQLAlchemy.
"""
