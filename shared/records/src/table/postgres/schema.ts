import { CodedError } from '@sepia/base/errors';

/** The newest schema that this version reads and writes. */
const SCHEMA_VERSION = 1;
/** Held while the schema is made or changed: one origin does it, the others wait. */
const MIGRATION_LOCK = 7_364_109;
/** Channel of `NOTIFY` on which origins hear that others changed records of the table. */
export const CHANNEL = 'sepia_records';

/** Sends one statement on one connection; resolves with its rows. Rejects with what the database, or its silence, says. */
export type Ask = (text: string, values?: unknown[]) => Promise<Record<string, unknown>[]>;

/** Each brings the schema from its place in the list to the next; none is ever changed once it was released. */
const MIGRATIONS: readonly (readonly string[])[] = [
  [
    'CREATE TABLE sepia_records (key bytea PRIMARY KEY, value text NOT NULL)',
    // Compare-and-set of several keys in one statement: all of them, or none and 40001. Keys are in order: no deadlock.
    `CREATE FUNCTION sepia_change(keys bytea[], olds text[], news text[], note text) RETURNS void
     LANGUAGE plpgsql AS $$
     DECLARE changed bigint;
     BEGIN
       FOR at IN 1 .. cardinality(keys) LOOP
         IF news[at] IS NULL THEN
           DELETE FROM sepia_records WHERE key = keys[at] AND value = olds[at];
         ELSIF olds[at] IS NULL THEN
           INSERT INTO sepia_records (key, value) VALUES (keys[at], news[at]) ON CONFLICT DO NOTHING;
         ELSE
           UPDATE sepia_records SET value = news[at] WHERE key = keys[at] AND value = olds[at];
         END IF;
         GET DIAGNOSTICS changed = ROW_COUNT;
         IF changed <> 1 THEN
           RAISE EXCEPTION 'a record was changed meanwhile' USING ERRCODE = '40001';
         END IF;
       END LOOP;
       PERFORM pg_notify('${CHANNEL}', note);
     END $$`,
  ],
];

/**
 * Brings the database to {@link SCHEMA_VERSION}; does nothing, and needs no right to make tables, where it is there. What
 * fails ends the connection, and with it lock and transaction. @throws `DISK_FORMAT` for a newer one; what the database says where the role may not make it
 */
export async function migrate(ask: Ask): Promise<void> {
  if ((await versionOf(ask)) === SCHEMA_VERSION) return;
  // Of the session, not of the transaction: one that began before another origin's commit does not see its tables.
  await ask('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
  await ask('BEGIN');
  const found = await versionOf(ask);
  if (found === 0)
    await ask('CREATE TABLE sepia_schema (one boolean PRIMARY KEY CHECK (one), version int NOT NULL)');
  for (const statements of MIGRATIONS.slice(found)) for (const text of statements) await ask(text);
  await ask(
    'INSERT INTO sepia_schema VALUES (true, $1) ON CONFLICT (one) DO UPDATE SET version = excluded.version',
    [SCHEMA_VERSION],
  );
  await ask('COMMIT');
  await ask('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]);
}

/** 0 where there is none yet. @throws `DISK_FORMAT` */
async function versionOf(ask: Ask): Promise<number> {
  const [table] = await ask("SELECT to_regclass('sepia_schema') IS NOT NULL AS is_there");
  if (table?.['is_there'] !== true) return 0;
  const [row] = await ask('SELECT version FROM sepia_schema');
  const version = Number(row?.['version'] ?? 0);
  if (version <= SCHEMA_VERSION) return version;
  throw new CodedError('DISK_FORMAT', {
    message: `the records' database has schema ${version}; this version of Sepia knows ${SCHEMA_VERSION}: update this origin`,
    detail: { found: version, known: SCHEMA_VERSION },
  });
}
