BEGIN TRANSACTION;
CREATE TABLE acknowledged (floor INTEGER NOT NULL);
INSERT INTO "acknowledged" VALUES(1);
CREATE TABLE acks (seq INTEGER PRIMARY KEY);
CREATE TABLE calls (key TEXT PRIMARY KEY, result TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "calls" VALUES('toolu_1','sent');
CREATE TABLE conversation (id TEXT NOT NULL);
INSERT INTO "conversation" VALUES('c1');
CREATE TABLE frames (id TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO "frames" VALUES('w1-1');
CREATE TABLE messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE,
            channel TEXT NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, thread TEXT, text TEXT NOT NULL,
            kind TEXT NOT NULL, reply_to TEXT, settles TEXT NOT NULL, outcome TEXT NOT NULL);
INSERT INTO "messages" VALUES(1,NULL,'telegram','bot','42','7','hello','message',NULL,'[]','');
INSERT INTO "messages" VALUES(2,NULL,'telegram','bot','42','7','','settled',NULL,'["1"]','answered');
INSERT INTO "messages" VALUES(3,NULL,'telegram','bot','42','7','from an action','message',NULL,'[]','');
CREATE TABLE push_rows (
            row_id TEXT PRIMARY KEY,
            uuid TEXT NOT NULL REFERENCES pushes ON UPDATE CASCADE ON DELETE CASCADE) WITHOUT ROWID;
INSERT INTO "push_rows" VALUES('row-2','u2');
CREATE TABLE pushes (
            uuid TEXT PRIMARY KEY, text TEXT NOT NULL, worker_id TEXT NOT NULL, attempts INTEGER NOT NULL,
            pushed_at REAL NOT NULL);
INSERT INTO "pushes" VALUES('u2','push u2','w2',2,1005.0);
CREATE TABLE turns (
            id TEXT PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL NOT NULL, outcome TEXT NOT NULL, detail TEXT,
            input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL, model_calls INTEGER NOT NULL);
INSERT INTO "turns" VALUES('w1-1',1000.0,1005.0,'answered',NULL,3,4,0,0,1);
CREATE INDEX push_rows_uuid ON push_rows (uuid);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',3);
COMMIT;
PRAGMA user_version=1;
