import { execFileSync } from 'node:child_process';
import { mkdir, open, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CodedError, systemCode } from '@sepia/base/errors';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort, OpenFile } from '@sepia/store/files/file-port';
import { type ColdLayer, MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';
import { badReads } from '../../../shared/store/test/unread/bad-reads.ts';

function blobPath(dataDir: string, digest: string): string {
  const hex = digest.slice('sha256:'.length);
  return join(dataDir, 'v1', 'blobs', 'sha256', hex.slice(0, 2), hex);
}

/** Whether the file is there with this content. */
async function holds(path: string, content: Buffer): Promise<boolean> {
  return (await readFile(path).catch(noFile)).equals(content);
}

/** What is read of a file that is not there at this moment. */
function noFile(error: unknown): Buffer {
  if (systemCode(error) === undefined) throw error;
  return Buffer.alloc(0);
}

/** Flips a bit of the stored blob at byte `at`. */
async function rot(dataDir: string, digest: string, at: number): Promise<boolean> {
  const file = await open(blobPath(dataDir, digest), 'r+').catch(() => undefined);
  if (file === undefined) return false;
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 1;
    await file.write(byte, 0, 1, at);
    return true;
  } finally {
    await file.close();
  }
}

t.test('a blob in the cache of an agent rots: the bad piece is fetched again', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const layer = await here.hinted(4 * MIB + 3);
  t.ok((await layer.get()).bytes.equals(layer.content));
  await here.cluster.stopMember('agent-1');
  t.ok(await rot(here.cluster.dataOf('agent-1'), layer.digest, 2 * MIB + 17));
  await here.cluster.startMember('agent-1');
  const answer = await layer.get();
  t.equal(answer.status, 200);
  t.ok(answer.bytes.equals(layer.content));
  t.ok(
    (await layer.get({ range: `bytes=${2 * MIB}-${2 * MIB + 99}` })).bytes.equals(
      layer.content.subarray(2 * MIB, 2 * MIB + 100),
    ),
  );
  t.equal(layer.requests.length, 1, 'the upstream was not asked again');
});

t.test('a folder, a pipe or a link lies where an agent had a blob: it is fetched again', async (t) => {
  await using here = await PullThrough.start(t.testdir(), PATIENT);
  const layer = await here.hinted(2 * MIB + 3);
  t.ok((await layer.get()).bytes.equals(layer.content));
  const path = blobPath(here.cluster.dataOf('agent-1'), layer.digest);
  for (const put of [
    async () => await mkdir(join(path, 'inner'), { recursive: true }),
    async () => execFileSync('mkfifo', [path]),
    async () => await symlink('/dev/zero', path),
  ]) {
    await until(async () => await holds(path, layer.content), 'it is in the cache');
    await rm(path);
    await put();
    const answer = await layer.get();
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
  }
  t.equal(layer.requests.length, 1, 'the upstream was not asked again');
  const readyz = await (await request(`${here.cluster.agents[0]!.adminUrl}/readyz`)).body.text();
  t.match(readyz, new RegExp(`warning: aside: .* look into ${path}\\.aside-[0-9a-f]{8}, then`));
});

t.test('a blob in the cache of an agent rots and nobody reads it: it is found and mended', async (t) => {
  const agent = { scrub: { rate: '1TiB', every: '1s' }, 'back-to-source': { mode: 'never' } };
  await using here = await PullThrough.start(t.testdir(), { agent });
  const layer = await here.hinted(3 * MIB + 3);
  t.ok((await layer.get()).bytes.equals(layer.content));
  const dir = here.cluster.dataOf('agent-1');
  await until(() => rot(dir, layer.digest, 2 * MIB + 17), 'it is in the cache');
  const path = blobPath(dir, layer.digest);
  await until(async () => await holds(path, layer.content), 'mended');
  await Promise.all(['origin-1', 'origin-2', 'origin-3'].map((id) => here.cluster.stopMember(id)));
  t.ok(await rot(dir, layer.digest, MIB));
  const readyz = async (): Promise<string> =>
    await (await request(`${here.cluster.agents[0]!.adminUrl}/readyz`)).body.text();
  await until(async () => (await readyz()).includes('warning: damaged: '), 'nobody has a right copy');
  const found = await readFile(path);
  t.ok(found.subarray(0, MIB).equals(layer.content.subarray(0, MIB)), 'the rest is still there');
});

t.test('a node that got a wrong piece of another says so: that one looks again, and mends it', async (t) => {
  const agent = { scrub: { rate: '1KiB' } };
  await using here = await PullThrough.start(t.testdir(), { ...PATIENT, agents: 2, agent });
  const pieces = 16;
  const dir = here.cluster.dataOf('agent-1');
  const isMended = async ({ digest, content }: Pick<ColdLayer, 'digest' | 'content'>): Promise<boolean> => {
    const found = await readFile(blobPath(dir, digest)).catch(noFile);
    return Array.from({ length: pieces }, (_, piece) => piece * MIB + 17).some(
      (at) => found[at] === content[at],
    );
  };
  const hasHelped = async (): Promise<boolean> => {
    const layer = await here.hinted(pieces * MIB);
    t.ok((await layer.get()).bytes.equals(layer.content));
    await until(() => rot(dir, layer.digest, 17), 'it is in the cache');
    for (let piece = 1; piece < pieces; piece++) await rot(dir, layer.digest, piece * MIB + 17);
    await layer.hint(1);
    const answer = await layer.get({}, 1);
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(layer.content));
    // Where the origins gave all of it, nobody has anything to complain of.
    for (let looks = 0; looks < 100; looks++) {
      if (await isMended(layer)) return true;
      await delay(50);
    }
    return false;
  };
  await until(hasHelped, 'a piece that another node complained of', 180_000);
});

t.test('a blob at an origin rots: right bytes all the same', async (t) => {
  await using here = await PullThrough.start(t.testdir(), { ...PATIENT, agents: 2 });
  const layer = await here.hinted(4 * MIB + 3);
  t.ok((await layer.get()).bytes.equals(layer.content));
  await here.cluster.stopMember('agent-1');
  // The agent may have its last byte before the origin has synced and renamed the file.
  await until(async () => {
    let rotten = 0;
    for (const id of ['origin-1', 'origin-2', 'origin-3']) {
      if (!(await rot(here.cluster.dataOf(id), layer.digest, MIB + 17))) continue;
      rotten += 1;
      await here.cluster.restartMember(id);
    }
    return rotten > 0;
  }, 'an origin has the blob on disk');
  await layer.hint(1);
  const answer = await layer.get({}, 1);
  t.equal(answer.status, 200);
  t.ok(answer.bytes.equals(layer.content));
});

/** A disk that takes no byte more once `full` is set; `roomBytes` are left for blobs. */
class FullDisk implements FilePort {
  full = false;
  roomBytes = 0;
  readonly rename = diskFiles.rename.bind(diskFiles);
  readonly unlink = diskFiles.unlink.bind(diskFiles);
  readonly list = diskFiles.list.bind(diskFiles);
  readonly stat = diskFiles.stat.bind(diskFiles);
  readonly makeFolder = diskFiles.makeFolder.bind(diskFiles);
  readonly syncFolder = diskFiles.syncFolder.bind(diskFiles);
  readonly touch = diskFiles.touch.bind(diskFiles);

  async open(path: string, mode: Parameters<FilePort['open']>[1]): Promise<OpenFile> {
    const file = await diskFiles.open(path, mode);
    return {
      read: (into, at) => file.read(into, at),
      write: async (bytes, at) => {
        if (this.full) {
          if (this.roomBytes < bytes.length)
            throw new CodedError('DISK_FULL', { detail: { path, system: 'ENOSPC' } });
          this.roomBytes -= bytes.length;
        }
        await file.write(bytes, at);
      },
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sync: () => file.sync(),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  }
}

async function diskFull(here: PullThrough): Promise<number> {
  const { body } = await request(`${here.cluster.adminUrl('agent-1')}/metrics`);
  return Number(/^sepia_agent_disk_full\b.* (\d+)$/m.exec(await body.text())?.[1]);
}

t.test('the disk of an agent is full', async (t) => {
  const files = new FullDisk();
  await using here = await PullThrough.start(t.testdir(), { ...PATIENT, agentFiles: files });
  const kept = await here.hinted(2 * MIB);
  t.ok((await kept.get()).bytes.equals(kept.content));
  files.full = true;

  await t.test('from the beginning: streamed through, small and large', async (t) => {
    const large = await here.hinted(5 * MIB + 1);
    const small = await here.hinted(1000);
    const answer = await large.get();
    t.equal(answer.status, 200);
    t.equal(answer.cut, false);
    t.ok(answer.bytes.equals(large.content));
    t.ok((await small.get()).bytes.equals(small.content));
    const tail = await large.get({ range: `bytes=${3 * MIB + 5}-` });
    t.equal(tail.status, 206);
    t.ok(tail.bytes.equals(large.content.subarray(3 * MIB + 5)));
    const suffix = await large.get({ range: 'bytes=-20' });
    t.ok(suffix.bytes.equals(large.content.subarray(-20)));
    const ready = await request(`${here.cluster.adminUrl('agent-1')}/readyz`);
    t.equal(ready.statusCode, 200);
    t.match(await ready.body.text(), /warning: the disk of \S+ is full: .*not kept/);
    t.equal(await diskFull(here), 1);
  });

  await t.test('while the upstream is slow: still streamed', async (t) => {
    const layer = await here.hinted(4 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: MIB });
    const answer = await layer.get();
    t.ok(answer.bytes.equals(layer.content));
    t.ok(answer.headersMs < answer.totalMs * 0.7, 'not held back whole');
  });

  await t.test('it gets full in mid-body: the same body goes on, several readers', async (t) => {
    const layer = await here.hinted(6 * MIB);
    files.roomBytes = 2 * MIB + 500_000;
    const answers = await Promise.all([layer.get(), layer.get(), layer.get({ range: `bytes=${MIB}-` })]);
    t.ok(answers[0].bytes.equals(layer.content));
    t.ok(answers[1].bytes.equals(layer.content));
    t.ok(answers[2].bytes.equals(layer.content.subarray(MIB)));
    t.notOk(answers.some((answer) => answer.cut));
  });

  await t.test('wrong bytes are withheld there as well, and not resumed', async (t) => {
    const layer = await here.hinted(3 * MIB);
    layer.misbehave({ type: 'slow', bytesPerSec: 4 * MIB });
    layer.misbehave({ type: 'lie', at: 5 }, { times: 1 });
    const answer = await layer.get();
    t.equal(answer.cut, true);
    t.ok(answer.bytes.length <= 2 * MIB, `${answer.bytes.length} bytes`);
    const again = await layer.get();
    t.equal(again.status, 200);
    t.ok(again.bytes.equals(layer.content));
    t.equal((await layer.get({ range: `bytes=${MIB}-` })).status, 503);
  });

  await t.test('what was in the cache is served; with room again, blobs are kept again', async (t) => {
    t.ok((await kept.get()).bytes.equals(kept.content));
    files.full = false;
    const layer = await here.hinted(2 * MIB);
    await until(async () => {
      t.ok((await layer.get()).bytes.equals(layer.content));
      const names = await readdir(join(here.cluster.dataOf('agent-1'), 'v1', 'blobs', 'sha256'), {
        recursive: true,
      });
      return names.some((name) => name.includes(layer.digest.slice(7)));
    }, 'the blob is in the cache');
  });
});

t.test('the disk of an agent does not read what it has: bodies are whole all the same', async (t) => {
  const files = new FullDisk();
  let isBad = (_path: string, _at?: number): boolean => false;
  const agentFiles = badReads(files, (path, at) => isBad(path, at));
  await using here = await PullThrough.start(t.testdir(), { ...PATIENT, agentFiles });
  const kept = await here.hinted(3 * MIB + 5);
  t.ok((await kept.get()).bytes.equals(kept.content));
  const isWhole = async (layer: typeof kept): Promise<boolean> => {
    const answer = await layer.get();
    return answer.status === 200 && !answer.cut && answer.bytes.equals(layer.content);
  };

  const bytesAlone = (_path: string, at?: number): boolean => at !== undefined;
  isBad = bytesAlone;
  t.ok(await isWhole(kept), 'a blob that was here');
  t.ok(await isWhole(await here.hinted(6 * MIB)), 'one that comes');
  files.full = true;
  t.ok(await isWhole(kept), 'where the disk takes nothing either');
  t.ok(await isWhole(await here.hinted(6 * MIB)));
  isBad = () => true;
  t.ok(await isWhole(kept), 'and where it does not say what is there');
  t.ok(await isWhole(await here.hinted(6 * MIB)));
  isBad = () => false;
  t.ok(await isWhole(kept), 'it reads again');
});
