import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { BlobStore } from '../src/blob-store.ts';
import { DamagedPieces } from '../src/rot/damaged-pieces.ts';
import { Scrubber } from '../src/scrubber.ts';
import { blobPath, checksOf, PUSHED, pieceOf, readAll, type StoreGround } from './contract.ts';
import { inMemory, onDisk } from './grounds.ts';

const MIB = PIECE_BYTES;
const DAY = 86_400_000;

/** Blobs in a store, and a scrub with a source of right copies that may be missing. */
class Scene {
  readonly blobs = new Map<Digest, Uint8Array>();
  readonly asked: string[] = [];
  readonly unreadable: Digest[] = [];
  readonly damaged = new DamagedPieces();
  readonly scrubber: Scrubber;
  hasSource = true;
  bytes = 0;

  constructor(
    t: Test,
    ground: StoreGround,
    store: BlobStore,
    more: { expected?: Digest[]; everyMs?: number; rate?: number; failedMs?: number } = {},
  ) {
    const { expected = [], everyMs = DAY, rate = 2 ** 40, failedMs = DAY } = more;
    this.scrubber = new Scrubber(
      {
        store,
        files: ground.files,
        dir: ground.dir,
        damaged: this.damaged,
        log: silentLogger(),
        nowMs: () => Date.now(),
        mend: async (digest, piece) => {
          this.asked.push(`${digest}/${piece}`);
          if (!this.hasSource) throw new CodedError('NO_PEERS');
          await store.mendPiece(digest, piece, pieceOf(this.blobs.get(digest)!, piece));
        },
        onUnreadable: async (digest) => void this.unreadable.push(digest),
        expected: async function* () {
          yield* expected;
        },
        onBytes: (bytes) => {
          this.bytes += bytes;
        },
      },
      { rateBytesPerSec: rate, everyMs, retryMs: 1, maxRetryMs: 50, failedMs },
    );
    t.teardown(async () => await this.scrubber.stop());
  }

  async pass(): Promise<void> {
    this.scrubber.start();
    await until(() => this.scrubber.pass?.isOver, 'a pass');
  }
}

/** What `sepia_pass_failed` says of the last pass. */
async function scrubFailed(): Promise<string | undefined> {
  const text = await new Metrics('origin', 'o').registry.metrics();
  return /^sepia_pass_failed\{loop="scrub".*\} (\d)$/m.exec(text)?.[1];
}

/** Blobs of 0 bytes, of less than a leaf, of a piece, of several. */
async function filled(store: BlobStore): Promise<Map<Digest, Uint8Array>> {
  const blobs = new Map<Digest, Uint8Array>();
  for (const size of [0, 5, 40_000, MIB, 3 * MIB + 7]) {
    const bytes = bytesOf(size, size + 1);
    const digest = digestOf(bytes);
    await store.putBytes(digest, bytes, PUSHED);
    blobs.set(digest, bytes);
  }
  return blobs;
}

function contract(t: Test, makeGround: (t: Test) => Promise<StoreGround>): void {
  const check = checksOf(t, makeGround);

  check('every byte of every blob is checked, and what rotted is mended', async (t, ground, open) => {
    const store = await open();
    const blobs = await filled(store);
    for (const [digest, { length }] of blobs)
      if (length > 0) await ground.damage(blobPath(ground.dir, digest), length - 1);
    const scene = new Scene(t, ground, store);
    for (const [digest, bytes] of blobs) scene.blobs.set(digest, bytes);
    await scene.pass();
    t.equal(scene.asked.length, 4, 'the last piece of each, but of the empty one');
    t.equal(scene.bytes, 3 * MIB, 'the rest was right');
    for (const [digest, bytes] of blobs) t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    t.same(scene.scrubber.damaged, { pieces: 0, digests: [] });
    t.same(scene.scrubber.warnings, []);
    await scene.scrubber.stop();
    await store.close();
  });

  check('a damaged blob that cannot be opened keeps none of the others', async (t, ground, open) => {
    const store = await open();
    const [digest, bytes] = [...(await filled(store))].at(-1)!;
    await ground.damage(blobPath(ground.dir, digest), MIB + 3);
    const scene = new Scene(t, ground, store, { rate: 0 });
    scene.blobs.set(digest, bytes);
    const stuck = digestOf(Buffer.from('stuck'));
    const opens = store.open.bind(store);
    let tried = 0;
    store.open = async (one, options) => {
      if (one !== stuck) return await opens(one, options);
      tried += 1;
      throw new CodedError('DISK_CORRUPT');
    };
    scene.scrubber.start();
    scene.damaged.note(stuck, 0);
    scene.damaged.note(digest, 1);
    await until(() => scene.scrubber.damaged.pieces === 1, 'the other is mended');
    t.same(scene.scrubber.damaged.digests, [stuck]);
    await until(() => tried > 2, 'it is tried again, too');
    await scene.scrubber.stop();
    await store.close();
  });

  check(
    'what a read found and nobody mended is told and tried again, without a scrub too',
    async (t, ground, open) => {
      const store = await open();
      const [digest, bytes] = [...(await filled(store))].at(-1)!;
      await ground.damage(blobPath(ground.dir, digest), MIB + 3);
      const scene = new Scene(t, ground, store, { rate: 0 });
      scene.blobs.set(digest, bytes);
      scene.hasSource = false;
      scene.scrubber.start();
      scene.damaged.note(digest, 1);
      const gone = digestOf(Buffer.from('gone'));
      scene.damaged.note(gone, 0);
      t.match(scene.scrubber.warnings, [new RegExp(`of 2 pieces .*${digest}, ${gone}`)]);
      await until(() => scene.asked.length >= 3, 'asked again and again');
      t.same(
        scene.scrubber.damaged,
        { pieces: 1, digests: [digest] },
        'a blob that is not here is forgotten',
      );
      t.equal(scene.bytes, 0, 'nothing else is read');
      scene.hasSource = true;
      await until(() => scene.scrubber.damaged.pieces === 0, 'mended');
      t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
      await scene.scrubber.stop();
      await store.close();
    },
  );

  check('a mend that fails loses nothing, is said, and is tried again', async (t, ground, open) => {
    const store = await open();
    const blobs = await filled(store);
    const [digest, bytes] = [...blobs].at(-1)!;
    await ground.damage(blobPath(ground.dir, digest), MIB + 3);
    const scene = new Scene(t, ground, store);
    scene.hasSource = false;
    scene.blobs.set(digest, bytes);
    await scene.pass();
    t.same(scene.scrubber.damaged, { pieces: 1, digests: [digest] });
    t.match(scene.scrubber.warnings, [
      new RegExp(`^damaged: no right copy is found of 1 pieces .*${digest}`),
    ]);
    await until(() => scene.asked.length >= 4, 'asked again and again');
    t.ok(await store.has(digest), 'it stays where it is');
    const handle = (await store.open(digest))!;
    t.ok(
      Buffer.from(await handle.readPieceVerified(2)).equals(pieceOf(bytes, 2)),
      'its right pieces are served',
    );
    await handle.close();
    scene.hasSource = true;
    await until(() => scene.scrubber.damaged.pieces === 0, 'mended');
    t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    t.same(scene.scrubber.warnings, []);
    await scene.scrubber.stop();
    await store.close();
  });

  check(
    'a blob that cannot be read keeps a pass from none of the others, and is named',
    async (t, ground, open) => {
      const store = await open();
      const blobs = await filled(store);
      const digests: Digest[] = [];
      for await (const { digest } of store.list()) digests.push(digest);
      const [stuck] = digests;
      const opens = store.open.bind(store);
      let isStuck = true;
      store.open = async (one, options) => {
        if (one === stuck && isStuck) throw Object.assign(new Error('no rights'), { code: 'EACCES' });
        return await opens(one, options);
      };
      const scene = new Scene(t, ground, store, { everyMs: 1_000 });
      await scene.pass();
      const read = [...blobs].filter(([digest]) => digest !== stuck).map(([, { length }]) => length);
      t.equal(
        scene.bytes,
        read.reduce((sum, one) => sum + one, 0),
        'all others were read',
      );
      t.match(scene.scrubber.warnings, [new RegExp(`^scrub: 1 blobs cannot be read, as ${stuck}`)]);
      t.equal(await scrubFailed(), '1');
      isStuck = false;
      await until(() => scene.scrubber.warnings.length === 0, 'the next pass reads it');
      await until(async () => (await scrubFailed()) === '0', 'a pass is done');
      await scene.scrubber.stop();
      await store.close();
    },
  );

  check('a disk that reads nothing ends a pass, which goes on later', async (t, ground, open) => {
    const store = await open();
    await filled(store);
    const digests = Array.from({ length: 250 }, (_none, at) => digestOf(Buffer.from(`${at}`)));
    const tried = new Set<Digest>();
    store.list = async function* () {
      for (const digest of digests) yield { digest } as never;
    };
    store.open = async (one) => {
      tried.add(one);
      throw new CodedError('DISK_FAILED');
    };
    const scene = new Scene(t, ground, store);
    scene.scrubber.start();
    await until(() => tried.size >= 100, 'so many are tried');
    await until(async () => (await scrubFailed()) === '1', 'it failed');
    t.equal(tried.size, 100);
    t.notOk(scene.scrubber.pass?.isOver);
    await scene.scrubber.stop();
    await store.close();
  });

  check('what was not read before a pass broke off is told when it is over', async (t, ground, open) => {
    const store = await open();
    const digests = Array.from({ length: 150 }, (_none, at) => digestOf(Buffer.from(`${at}`)));
    store.list = async function* (after) {
      const from = after === undefined ? 0 : digests.indexOf(after) + 1;
      for (const digest of digests.slice(from)) yield { digest } as never;
    };
    let tries = 0;
    store.open = async () => {
      if (++tries <= 100) throw new CodedError('DISK_FAILED');
      return undefined;
    };
    const scene = new Scene(t, ground, store, { failedMs: 1 });
    await scene.pass();
    t.equal(tries, 150);
    t.match(scene.scrubber.warnings, [/^scrub: 100 blobs cannot be read/]);
    t.equal(await scrubFailed(), '1');
    await scene.scrubber.stop();
    await store.close();
  });

  check('a damaged blob that is deleted is forgotten', async (t, ground, open) => {
    const store = await open();
    const [digest] = [...(await filled(store))].at(-1)!;
    await ground.damage(blobPath(ground.dir, digest), 1);
    const scene = new Scene(t, ground, store);
    scene.hasSource = false;
    await scene.pass();
    t.equal(scene.scrubber.damaged.pieces, 1);
    await store.delete(digest);
    await until(() => scene.scrubber.damaged.pieces === 0, 'forgotten');
    await scene.scrubber.stop();
    await store.close();
  });

  check('a pass is not begun anew by a restart, nor before its time', async (t, ground, open) => {
    const store = await open();
    await filled(store);
    const first = new Scene(t, ground, store);
    await first.pass();
    await first.scrubber.stop();
    t.equal(first.bytes, 40_005 + 4 * MIB + 7);
    const second = new Scene(t, ground, store);
    await second.pass();
    await second.scrubber.stop();
    t.equal(second.bytes, 0, 'the pass before is fresh');
    const place = join(ground.dir, 'scrub');
    await ground.damage(place, 0);
    const third = new Scene(t, ground, store);
    await third.pass();
    await third.scrubber.stop();
    t.equal(third.bytes, first.bytes, 'a place that does not read counts as none');
    await ground.files.unlink(place);
    const file = await ground.files.open(place, 'create');
    const digests = [...(await filled(store)).keys()].sort();
    await file.write(Buffer.from(JSON.stringify({ beganMs: Date.now(), after: digests[2] })), 0);
    await file.close();
    const fourth = new Scene(t, ground, store);
    await fourth.pass();
    await fourth.scrubber.stop();
    const [a, b] = [digests[3]!, digests[4]!];
    const sizeOf = async (digest: Digest): Promise<number> => (await store.stat(digest))!.sizeBytes;
    t.equal(fourth.bytes, (await sizeOf(a)) + (await sizeOf(b)), 'from where the process before was');
    await store.close();
  });

  check('what is gone or of a wrong size is told; a look is no use of a blob', async (t, ground, open) => {
    const store = await open({}, () => 4e12);
    const blobs = await filled(store);
    const [gone, , , cut] = [...blobs.keys()] as [Digest, Digest, Digest, Digest];
    const before = new Map<Digest, number>();
    for await (const { digest, accessedMs } of store.list()) before.set(digest, accessedMs);
    await ground.files.unlink(blobPath(ground.dir, gone));
    const file = await ground.files.open(blobPath(ground.dir, cut), 'update');
    await file.truncate(MIB - 1);
    await file.close();
    const scene = new Scene(t, ground, store, { expected: [...blobs.keys()] });
    await scene.pass();
    await scene.scrubber.stop();
    t.same([...new Set(scene.unreadable)].sort(), [gone, cut].sort());
    for await (const { digest, accessedMs } of store.list())
      if (digest !== cut) t.equal(accessedMs, before.get(digest));
    await store.close();
  });
}

t.test('on disk', async (t) => contract(t, onDisk));
t.test('on the crash file system', async (t) => contract(t, inMemory));

t.test('without a rate nothing is read', async (t) => {
  const store = { has: t.fail, open: t.fail, list: t.fail } as unknown as BlobStore;
  const { files, dir } = await inMemory();
  const damaged = new DamagedPieces();
  const deps = {
    store,
    files,
    dir,
    damaged,
    log: silentLogger(),
    nowMs: () => 0,
    mend: async () => t.fail(),
  };
  const scrubber = new Scrubber(deps, { rateBytesPerSec: 0, everyMs: DAY });
  scrubber.start();
  await scrubber.stop();
  t.equal(scrubber.pass, undefined);
});
