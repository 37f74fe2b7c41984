BEGIN TRANSACTION;
CREATE TABLE delivered (floor INTEGER NOT NULL);
INSERT INTO "delivered" VALUES(2);
CREATE TABLE finals (seq INTEGER PRIMARY KEY, refused TEXT);
INSERT INTO "finals" VALUES(1,NULL);
INSERT INTO "finals" VALUES(2,NULL);
CREATE TABLE parts (
            seq INTEGER NOT NULL, part INTEGER NOT NULL, in_flight INTEGER NOT NULL, attempts INTEGER NOT NULL,
            message_id TEXT, PRIMARY KEY (seq, part)) WITHOUT ROWID;
INSERT INTO "parts" VALUES(1,0,0,1,'m100');
INSERT INTO "parts" VALUES(3,0,1,1,NULL);
CREATE TABLE rows (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            channel TEXT NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, thread TEXT, message_id TEXT NOT NULL,
            sender_id TEXT NOT NULL, sender_name TEXT NOT NULL, text TEXT NOT NULL, sent_at REAL NOT NULL, quote TEXT,
            attachment TEXT);
INSERT INTO "rows" VALUES(1,'row-1','telegram','bot','42','7','1','telegram:7','Ada','text 1',991.0,NULL,NULL);
INSERT INTO "rows" VALUES(2,'row-2','telegram','bot','42','7','2','telegram:7','Ada','text 2',992.0,NULL,NULL);
INSERT INTO "rows" VALUES(3,'row-3','telegram','bot','42','7','3','telegram:7','Ada','text 3',993.0,NULL,NULL);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('rows',3);
COMMIT;
PRAGMA user_version=1;
