import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { digestHex, digestOf } from '@sepia/base/digest';
import t from 'tap';
import { startCluster, until } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/app';
const MIB = 1024 * 1024;

t.test('a blob that rotted on disk is never served wrong, and is mended from another origin', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const blob = randomBytes(3 * MIB + 5);
  const digest = digestOf(blob);
  t.equal(
    (await c.call('o1', { method: 'PUT', path: `/v1/blobs/${digest}?${LOCAL}`, body: blob })).status,
    201,
  );
  const state = async (): Promise<string> => {
    const answer = await c.call('o2', { method: 'GET', path: `/v1/blobs/${digest}/where?${LOCAL}` });
    return answer.status === 200
      ? (JSON.parse(answer.bytes.toString()) as { state: string }).state
      : String(answer.status);
  };
  await until(async () => (await state()) === 'final', 'o2 has its copy');
  await c.stop('o2');
  const hex = digestHex(digest);
  const file = await open(join(c.dataOf('o2'), 'v1', 'blobs', 'sha256', hex.slice(0, 2), hex), 'r+');
  await file.write(Buffer.from('rotten'), 0, 6, MIB + 100);
  await file.close();
  await c.start('o2');
  const answer = await c
    .call('o2', { method: 'GET', path: `/v1/blobs/${digest}?${LOCAL}` })
    .catch((error: unknown) => error as Error);
  t.ok(answer instanceof Error, 'the body is cut before the bad piece');
  await until(async () => {
    const got = await c
      .call('o2', { method: 'GET', path: `/v1/blobs/${digest}?${LOCAL}` })
      .catch(() => undefined);
    return got !== undefined && got.status === 200 && got.bytes.equals(blob) && (await state()) === 'final';
  }, 'mended');
});

t.test('a start that cannot be is refused by key', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  await t.rejects(c.start('o1'), { code: 'START_FAILED' }, 'the data folder is in use');
});
