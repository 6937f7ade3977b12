import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, connect as dial, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { silentLogger } from '@sepia/base/log';
import { noPostgres, PostgresServer } from '@sepia/test-support/postgres';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { PostgresTable } from '../../src/table/postgres/postgres-table.ts';
import type { RecordTable, Write } from '../../src/table/record-table.ts';
import { recordsContract } from './contract.ts';

const log = silentLogger();
const put = (key: string, value: string): Write => ({ type: 'put', key, value });

/** Stands between the origin and the database: passes bytes, or holds them for ever, or cuts. */
class Wire {
  readonly #sockets = new Set<Socket>();
  isHung = false;
  /** Takes the next answer to a write, and cuts its connection when the promise resolves. */
  onWritten: (() => Promise<void>) | undefined;
  port = 0;

  async start(t: Test, target: number): Promise<void> {
    const server = createServer((near) => {
      const far = dial(target, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          near.destroy();
          far.destroy();
        });
      }
      let isWrite = false;
      near.on('data', (bytes: Buffer) => {
        isWrite = bytes.includes('sepia_change');
        if (!this.isHung) far.write(bytes);
      });
      far.on('data', (bytes: Buffer) => {
        const { onWritten } = this;
        if (isWrite && onWritten !== undefined) {
          this.onWritten = undefined;
          void onWritten().then(() => near.destroy());
        } else if (!this.isHung) near.write(bytes);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.port = (server.address() as { port: number }).port;
    t.teardown(() => {
      this.cut();
      server.close();
    });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }
}

t.test('records on PostgreSQL', { skip: noPostgres() }, async (t) => {
  const server = await PostgresServer.start();
  t.teardown(async () => await server.remove());
  const urls = new WeakMap<RecordTable, string>();
  let count = 0;
  const openAt = async (t: Test, url: string): Promise<PostgresTable> => {
    const table = await PostgresTable.open({ log }, { url });
    urls.set(table, url);
    t.teardown(async () => await table.close());
    return table;
  };
  const freshUrl = (): string => {
    const name = `records${++count}`;
    server.sql(`CREATE DATABASE ${name}`);
    return server.url.replace(/postgres$/, name);
  };

  await t.test('keep the contract', async (t) => {
    await recordsContract(t, {
      open: async (t) => await openAt(t, freshUrl()),
      again: async (t, table) => await openAt(t, urls.get(table)!),
    });
  });

  await t.test('are watched: what others write is heard, what may have been missed is told', async (t) => {
    const url = freshUrl();
    const [own, other] = [await openAt(t, url), await openAt(t, url)];
    const heard: (string | undefined)[] = [];
    own.onForeign((key) => heard.push(key));
    await until(() => heard.length > 0, 'it listens');
    t.same(heard.splice(0), [undefined], 'before it listened something may have been missed');
    await own.change(['mine'], () => ({ writes: [put('mine', '1')], answer: undefined }));
    await other.change(['l1\0u', 'x'], () => ({
      writes: [put('l1\0u', '1'), put('x', '2')],
      answer: undefined,
    }));
    await until(() => heard.length >= 2, 'it hears of both');
    t.same(heard.splice(0).sort(), ['l1\0u', 'x']);
    const many = Array.from({ length: 900 }, (_, at) => `key of some length ${at}`);
    await other.change(many, () => ({ writes: many.map((key) => put(key, '1')), answer: undefined }));
    await until(() => heard.length > 0, 'it hears that there were many');
    t.same(heard.splice(0), [undefined]);
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    await until(() => heard.includes(undefined), 'it listens again');
    await other.change(['y'], () => ({ writes: [put('y', '2')], answer: undefined }));
    await until(() => heard.includes('y'), 'it hears again');
  });

  await t.test('are asked for by the user that the file names now', async (t) => {
    const url = freshUrl();
    server.sql('CREATE ROLE renewed LOGIN SUPERUSER');
    const file = join(t.testdir({ url }), 'url');
    const table = await PostgresTable.open({ log }, { url: { file, key: 'records.url-file' } });
    t.teardown(async () => await table.close());
    const user = async (): Promise<unknown> =>
      await table.database.run(async (ask) => (await ask('SELECT current_user AS name'))[0]?.['name']);
    const former = await user();
    t.not(former, 'renewed');
    writeFileSync(file, url.replace(/[/]\w+@/, '/renewed@'));
    await until(async () => {
      server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sepia'");
      return (await user()) === 'renewed';
    }, 'new connections are of the renewed user');
  });

  await t.test('are not written long after what was read beside them', async (t) => {
    const table = await PostgresTable.open({ log }, { url: freshUrl(), lateMs: 400 });
    t.teardown(async () => await table.close());
    await table.change(['f'], () => ({ writes: [put('f', '1')], answer: undefined }));
    let steps = 0;
    const answer = await table.change(
      ['k'],
      ([, floor]) => {
        steps += 1;
        // As where a process is halted between what it read and what it writes.
        if (steps === 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 800);
        return { writes: [put('k', String(steps))], answer: floor };
      },
      ['f'],
    );
    t.equal(answer, '1');
    t.ok(steps > 1, 'what was read is read again');
    t.equal(await table.get('k'), String(steps), 'the first step wrote nothing');
    await table.change(['k'], () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 800);
      return { writes: [put('k', 'late')], answer: undefined };
    });
    t.equal(await table.get('k'), 'late', 'nothing else is');
  });

  await t.test('get their schema once, however many origins start at once', async (t) => {
    const url = freshUrl();
    const tables = await Promise.all(Array.from({ length: 5 }, async () => await openAt(t, url)));
    await tables[0]!.change(['k'], () => ({ writes: [put('k', '1')], answer: undefined }));
    for (const table of tables) t.equal(await table.get('k'), '1');
  });

  await t.test('of a newer schema are refused by name', async (t) => {
    const url = freshUrl();
    await (await PostgresTable.open({ log }, { url })).close();
    const name = url.split('/').at(-1)!;
    server.sql(`ALTER DATABASE ${name} RENAME TO newer`);
    const newer = server.url.replace(/postgres$/, 'newer');
    const table = await openAt(t, newer);
    await table.database.run(async (ask) => await ask('UPDATE sepia_schema SET version = 99'));
    await t.rejects(PostgresTable.open({ log }, { url: newer }), {
      code: 'DISK_FORMAT',
      message: /schema 99; this version of Sepia knows 1/,
    });
  });

  await t.test('need few rights, once the schema is there', async (t) => {
    const url = freshUrl();
    const table = await openAt(t, url);
    await table.database.run(async (ask) => {
      await ask('CREATE ROLE origin LOGIN');
      await ask('GRANT SELECT ON sepia_schema TO origin');
      await ask('GRANT SELECT, INSERT, UPDATE, DELETE ON sepia_records TO origin');
    });
    const little = await openAt(t, url.replace('sepia@', 'origin@'));
    await little.change(['k'], () => ({ writes: [put('k', '1')], answer: undefined }));
    t.equal(await table.get('k'), '1');
    const empty = freshUrl().replace('sepia@', 'origin@');
    await t.rejects(PostgresTable.open({ log }, { url: empty, deadlineMs: 5_000 }), {
      code: 'START_FAILED',
      message: /records' database .* permission denied.*one start as the owner of the database/,
    });
  });

  await t.test('are read where nothing can be written, and that is said', async (t) => {
    const url = freshUrl();
    const name = url.split('/').at(-1)!;
    await (await openAt(t, url)).change(['k'], () => ({ writes: [put('k', '1')], answer: undefined }));
    const changes: readonly [string, string, RegExp][] = [
      [
        `ALTER DATABASE ${name} SET default_transaction_read_only = on`,
        `ALTER DATABASE ${name} RESET default_transaction_read_only`,
        /takes no writes: .*read-only transaction/,
      ],
      ['ALTER ROLE writer NOINHERIT', 'ALTER ROLE writer INHERIT', /takes no writes: permission denied/],
    ];
    server.sql('CREATE ROLE rights NOLOGIN');
    server.sql('CREATE ROLE writer LOGIN IN ROLE rights');
    const owner = await openAt(t, url);
    await owner.database.run(async (ask) => {
      await ask('GRANT SELECT ON sepia_schema, sepia_records TO writer');
      await ask('GRANT INSERT, UPDATE, DELETE ON sepia_records TO rights');
    });
    for (const [stop, back, words] of changes) {
      server.sql(stop);
      const table = await openAt(t, url.replace('sepia@', 'writer@'));
      const write = async (value: string): Promise<unknown> =>
        await table.change(['k'], () => ({ writes: [put('k', value)], answer: undefined }));
      for (const _ of [1, 2])
        await t.rejects(write('2'), {
          code: 'QUORUM_LOST',
          message: "the records' database takes no writes",
        });
      t.match(table.database.state.noWrites, words);
      t.equal(await table.get('k'), '1');
      t.equal(table.database.state.away, undefined, 'reads are answered');
      t.match(table.database.state.noWrites, words, 'and do not say that all is well');
      server.sql(back);
      await until(() => table.database.state.noWrites === undefined, 'it takes writes again');
      await write('2');
      t.equal(await table.get('k'), '2');
      await write('1');
    }
  });

  await t.test('are not kept where not every text can be', async (t) => {
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    const latin = freshUrl().replace(/[^/]*$/, 'latin');
    await t.rejects(PostgresTable.open({ log }, { url: latin }), {
      code: 'START_FAILED',
      message: /has encoding LATIN1/,
    });
  });

  await t.test('are not asked of who may forget them', async (t) => {
    const standby = freshUrl();
    await server.kill();
    await server.resume(['fsync=off']);
    await t.rejects(PostgresTable.open({ log }, { url: standby }), {
      code: 'START_FAILED',
      message: /fsync off/,
    });
    await server.kill();
    await server.resume();
    const table = await openAt(t, standby);
    server.sql(`ALTER DATABASE ${standby.split('/').at(-1)} SET synchronous_commit = off`);
    const again = await openAt(t, standby);
    const [row] = await again.database.run(
      async (ask) => await ask("SELECT current_setting('synchronous_commit') AS found"),
    );
    t.equal(row?.['found'], 'on', 'whatever the database says');
    t.equal(await table.get('k'), undefined);
  });

  await t.test(
    'survive a database that is killed: what was acknowledged is there, the rest is told',
    async (t) => {
      const url = freshUrl();
      const table = await openAt(t, url);
      const acknowledged: string[] = [];
      let isOver = false;
      const refused: unknown[] = [];
      const write = async (name: string): Promise<void> => {
        for (let n = 0; !isOver; n++) {
          const key = `${name} ${n}`;
          try {
            await table.change([key], () => ({ writes: [put(key, '1')], answer: undefined }));
            acknowledged.push(key);
          } catch (error) {
            refused.push(error);
            // Whoever starts the database has its turn.
            await delay(20);
          }
        }
      };
      const writers = ['a', 'b', 'c', 'd'].map(write);
      for (let round = 0; round < 3; round++) {
        const before = acknowledged.length;
        await until(() => acknowledged.length > before + 20, 'writes go on');
        await server.kill();
        await server.resume();
      }
      const last = acknowledged.length;
      await until(() => acknowledged.length > last + 20, 'writes go on');
      isOver = true;
      await Promise.all(writers);
      const found = await table.getMany(acknowledged);
      t.equal(
        found.filter((one) => one === undefined).length,
        0,
        `${acknowledged.length} acknowledged, none lost`,
      );
      for (const error of refused) t.match(error, { code: 'QUORUM_LOST' });
    },
  );

  await t.test('are told of a write whose answer was lost, and it is made once', async (t) => {
    const wire = new Wire();
    await wire.start(t, server.port);
    const url = freshUrl();
    const other = await openAt(t, url);
    const table = await openAt(t, url.replace(`:${server.port}`, `:${wire.port}`));
    const heard: (string | undefined)[] = [];
    table.onForeign((key) => heard.push(key));
    await until(() => heard.length > 0, 'it listens');
    heard.length = 0;
    const durable: string[] = [];
    const seen: unknown[] = [];
    const add = async (text: string): Promise<string> =>
      await table.change(['k'], ([found = '']) => {
        seen.push(found);
        return {
          writes: [put('k', found + text)],
          answer: `${text} behind ${found}`,
          onDurable: () => durable.push(text),
        };
      });
    wire.onWritten = async () => undefined;
    t.equal(await add('a'), 'a behind ', 'the answer of the try that was made');
    t.same([seen, durable, await other.get('k')], [[''], ['a'], 'a'], 'not made again');
    wire.onWritten = async () =>
      await other.change(['k'], ([found]) => ({ writes: [put('k', `${found}x`)], answer: undefined }));
    t.equal(await add('b'), 'b behind abx', 'another change came over it: its step runs again');
    t.same(durable, ['a', 'b']);
    await until(() => heard.filter((key) => key === 'k').length >= 2, 'it hears of the first try as of any');
  });

  await t.test('say why they cannot be reached, in time, and come back', async (t) => {
    const wire = new Wire();
    await wire.start(t, server.port);
    const url = freshUrl().replace(`:${server.port}`, `:${wire.port}`);
    const table = await openAt(t, url);
    await table.change(['k'], () => ({ writes: [put('k', '1')], answer: undefined }));
    wire.cut();
    t.equal(await table.get('k'), '1', 'a connection that was cut is made again');
    wire.isHung = true;
    await t.rejects(table.get('k'), {
      code: 'QUORUM_LOST',
      message: "the records' database does not answer",
    });
    t.match(table.database.state.away, /database 127\.0\.0\.1:\d+\/records\d+ does not answer: ./);
    await Promise.all(
      Array.from({ length: 40 }, async () => await t.rejects(table.get('k'), { code: 'QUORUM_LOST' })),
    );
    t.pass('more than there are connections end as well');
    wire.isHung = false;
    await until(async () => {
      try {
        return (await table.get('k')) === '1';
      } catch (error) {
        t.match(error, { code: 'QUORUM_LOST' });
        return false;
      }
    }, 'it answers again');
    t.equal(table.database.state.away, undefined);
  });
});
