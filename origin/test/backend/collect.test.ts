import { existsSync, mkdirSync, readdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Digest, digestOf } from '@sepia/base/digest';
import t from 'tap';
import {
  bytesOf,
  collect,
  copies,
  fileIn,
  MIB,
  pull,
  push,
  pushImage,
  setUp,
  until,
  written,
} from './bed.ts';

const DAY_SECONDS = 86_400;

/** As somebody else, or a collection that was killed, leaves it. */
function leave(place: string, bytes: Buffer, ageSeconds: number): Digest {
  const digest = digestOf(bytes);
  const file = fileIn(place, digest);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  const at = Date.now() / 1_000 - ageSeconds;
  utimesSync(file, at, at);
  return digest;
}

t.test('what nothing links goes from the backend and from all origins; all else stays', async (t) => {
  const { c, place } = await setUp(t);
  const keptBytes = bytesOf(MIB, 1);
  const kept = await push(c, keptBytes);
  const manifest = await pushImage(c, [{ digest: kept, size: keptBytes.length }]);
  const deadBytes = bytesOf(2 * MIB, 2);
  const dead = await push(c, deadBytes);
  await until(written(c), 'all is written');
  // A collection that was killed took it off the origins alone.
  const half = leave(place, bytesOf(1_000, 3), 0);
  const foreign = leave(place, bytesOf(1_000, 4), 2 * DAY_SECONDS);

  const dry = await collect(c, true);
  t.match(dry, { phase: 'done', backends: [{ upstream: 'local', place, blobs: 0, unlinked: 1, older: 1 }] });
  const report = await collect(c);
  t.match(report, { phase: 'done', failure: undefined });
  t.match(report.backends, [{ blobs: 2, bytes: 2 * MIB + 1_000, older: 1, left: undefined }]);
  t.match(report.repositories, [{ repository: 'team/app', links: 1, backendBytes: 2 * MIB }]);
  for (const one of [dead, half]) t.notOk(existsSync(fileIn(place, one)), 'gone from the backend');
  t.same(copies(c, dead), [], 'copies that were cached since are gone as well');
  t.ok(existsSync(fileIn(place, foreign)), 'what is older than all records is not judged');
  for (const one of [kept, manifest]) t.ok(existsSync(fileIn(place, one)));
  t.ok((await pull(c, c.ids[1]!, kept)).bytes.equals(keptBytes));

  t.equal(await push(c, deadBytes), dead, 'a push of it works again');
  await until(written(c), 'it is written again');
  t.ok(existsSync(fileIn(place, dead)));
  t.ok((await pull(c, c.ids[2]!, dead)).bytes.equals(deadBytes));
});

t.test('a dry run writes nothing to the backend, a mark neither', async (t) => {
  const { c, place } = await setUp(t);
  const theirs = leave(place, bytesOf(1_000, 6), 2 * DAY_SECONDS);
  const before = readdirSync(place, { recursive: true });
  t.match(await collect(c, true), {
    phase: 'done',
    backends: [{ upstream: 'local', place, left: undefined }],
  });
  t.same(readdirSync(place, { recursive: true }), before, 'nobody has marked it');
  t.match(await collect(c), { phase: 'done' });
  t.ok(existsSync(join(place, 'clusters')), 'a collection takes it for this cluster');
  t.ok(existsSync(fileIn(place, theirs)));
});

t.test('a backend that is away is left for the next collection, and says so', async (t) => {
  const { c, place } = await setUp(t);
  const dead = await push(c, bytesOf(MIB, 5));
  await until(written(c), 'it is written');
  renameSync(place, `${place}.away`);
  mkdirSync(place);
  const first = await collect(c);
  t.match(first, { phase: 'done', links: 1, backends: [{ blobs: 0, left: /is it mounted/ }] });
  renameSync(place, `${place}.empty`);
  renameSync(`${place}.away`, place);
  t.ok(existsSync(fileIn(place, dead)));
  t.match((await collect(c)).backends, [{ blobs: 1, bytes: MIB }], 'what was missed is taken up');
  t.notOk(existsSync(fileIn(place, dead)));
});

t.test('what pushes bring back while collections run is in the backend at the end', async (t) => {
  const { c, place } = await setUp(t, { budget: '4MiB' });
  const blobs = Array.from({ length: 4 }, (_, n) => bytesOf(MIB + n, 10 + n));
  let over = false;
  let pauseMs = 0;
  const sweeping = (async (): Promise<number> => {
    for (let count = 0; ; count++) {
      if (over && count >= 2) return count;
      await collect(c);
      await sleep(pauseMs);
    }
  })();
  for (let round = 0; round < 4; round++) for (const bytes of blobs) await push(c, bytes);
  let manifest: Digest | undefined;
  // A layer may be collected between its push and the manifest: both are repeated then, as clients do. Without a grace the
  // collections that follow each other must leave an image the time of its push, however long that is on this machine.
  await until(
    async () => {
      const layers: { digest: Digest; size: number }[] = [];
      for (const bytes of blobs) layers.push({ digest: await push(c, bytes), size: bytes.length });
      manifest = await pushImage(c, layers).catch((error: unknown) => {
        if (!/manifest: 400/.test(String(error))) throw error;
        pauseMs = Math.max(20, pauseMs * 2);
        return undefined;
      });
      return manifest !== undefined;
    },
    'an image is taken',
    240_000,
  );
  over = true;
  t.ok((await sweeping) >= 2);
  await until(written(c), 'all is written');
  for (const bytes of blobs) {
    const digest = digestOf(bytes);
    t.ok(existsSync(fileIn(place, digest)), `${digest} is in the backend`);
    t.ok((await pull(c, c.ids[1]!, digest)).bytes.equals(bytes));
  }
});
