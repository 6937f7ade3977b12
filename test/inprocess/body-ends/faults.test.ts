import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { createApp } from '@sepia/http/app';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { RemoteBlob } from '@sepia/http/bodies/remote-blob';
import { createGate } from '@sepia/http/gate';
import { serveBlob } from '@sepia/http/serve-blob';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import type { BlobHandle } from '@sepia/store/blob-handle';
import { BlobStore } from '@sepia/store/blob-store';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { severalParts, twoRanges, virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { CachedBlob } from '../../../agent/src/blobs/cached-blob.ts';
import { EnduringBlob } from '../../../agent/src/blobs/enduring-blob.ts';
import { CallWatch } from '../../../agent/src/cluster/members.ts';
import { OriginClient } from '../../../agent/src/cluster/origin-client.ts';
import type { Download } from '../../../agent/src/downloads/download.ts';
import { ClusterGuide } from '../../../agent/src/downloads/guide.ts';
import { storedBlob } from '../../../origin/src/blobs/stored-blob.ts';
import { Fetch } from '../../../origin/src/fetch/fetch.ts';
import { type Truth, truthOf } from '../../../proxy/test/support/answers.ts';
import { FaultyOrigins } from '../../../proxy/test/support/faulty-origins.ts';
import { CrashFiles } from '../../../shared/store/test/crash-files.ts';
import { FaultyDisk } from './faulty-disk.ts';
import { FaultyUpstream } from './faulty-upstream.ts';

/** Of each path. */
const RUNS = Number(process.env['SEPIA_FAULT_RUNS'] ?? 25);
/** Every so many runs ask for two ranges at once. */
const SEVERAL_EVERY = 4;
const ATTRS = {
  class: 'pushed',
  provenance: [{ upstream: 'local', repository: 'app' }],
  writtenBack: false,
} as const;
const NAME = parseRepositoryName('app');
const TRUTHS = [300_000, PIECE_BYTES, 2 * PIECE_BYTES + 77_777].map((size) =>
  truthOf(Buffer.from(seededBytes(size, `bodies-${size}`))),
);

/** Nothing proves a part of a blob whose bytes nobody has seen whole: read as a whole alone. */
const LYING = 'a cold fetch of an origin, whose upstream lies';

/** A piece from elsewhere; or a wrong one, or none, or late. */
async function mendOf(truth: Truth, index: number, chance: Chance): Promise<Uint8Array> {
  const at = index * PIECE_BYTES;
  const piece = truth.bytes.subarray(at, at + pieceLength(truth.bytes.length, index));
  const dice = chance.below(6);
  if (dice === 0) throw new CodedError('DISK_CORRUPT', { message: 'what came is wrong' });
  if (dice === 1) throw new CodedError('NO_PEERS', { message: 'nobody has it' });
  if (dice === 2) await new Promise((resolve) => setTimeout(resolve, chance.below(40_000)));
  if (dice !== 3) return piece;
  const wrong = Uint8Array.prototype.slice.call(piece);
  wrong[chance.below(wrong.length)]! ^= 1;
  return wrong;
}

async function stored(truth: Truth, chance: Chance): Promise<BlobHandle> {
  const disk = new FaultyDisk(new CrashFiles('/d'), chance);
  const store = await BlobStore.open(
    { files: disk, dir: '/d', log: silentLogger(), nowMs: () => 1e12 },
    { durable: true, bootId: 'one', mapDelayMs: 1e6 },
  );
  await store.putBytes(truth.digest, truth.bytes, ATTRS);
  const handle = await store.open(truth.digest);
  disk.fallIll({ passing: chance.next() < 0.7 ? 0.05 : 0, lasting: chance.next() < 0.7 ? 0.03 : 0 });
  return handle!;
}

/** A download whose disk gets full at some piece. */
function download(truth: Truth, chance: Chance): Download {
  const full = chance.below(truth.hashes.length + 1);
  const { bytes, digest } = truth;
  const demand = (piece: number): void => {
    if (piece >= full) throw new CodedError('DISK_FULL');
  };
  return {
    digest,
    sizeBytes: bytes.length,
    isFinal: false,
    provesWhole: true,
    has: (piece: number) => piece < full,
    leaves: async (piece: number) => {
      demand(piece);
      const at = piece * PIECE_BYTES;
      return pieceLeaves(bytes.subarray(at, at + pieceLength(bytes.length, piece)));
    },
    read: async (offset: number, into: Uint8Array) => {
      demand(Math.floor(offset / PIECE_BYTES));
      into.set(bytes.subarray(offset, offset + into.length));
      if (chance.next() < 0.05) into[chance.below(into.length)]! ^= 1;
    },
    lend: () => undefined,
    pieceHash: (piece: number) => truth.hashes[piece],
    mend: async (piece: number) => await mendOf(truth, piece, chance),
    whenFinal: async () => demand(truth.hashes.length),
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  } as unknown as Download;
}

/** The rest of a download's body, from origins that send what they like. */
function passage(truth: Truth, chance: Chance): RemoteBlob {
  const dies = chance.next() < 0.3 ? { livesMs: chance.below(1_000) } : {};
  const weather = { timing: true, wrong: true, fetchRate: undefined, ...dies };
  const faulty = new FaultyOrigins(truth, weather, chance);
  const health = new CallWatch(Date.now);
  const origins = new OriginClient({ cluster: faulty.cluster, client: faulty, health });
  const deps = {
    health,
    trackers: undefined as never,
    origins,
    nodeId: 'agent-1',
    addresses: () => [],
    zone: undefined,
  };
  const guide = new ClusterGuide(deps, { upstream: 'local', repository: NAME, digest: truth.digest });
  const metainfo = Metainfo.final(truth.digest, truth.bytes.length, Buffer.concat(truth.hashes));
  const source = { ...guide.source(), find: async () => guide.holders(metainfo) };
  return new RemoteBlob(
    source,
    {
      progressMs: 10_000,
      stallMs: 30_000,
      onBytes: () => undefined,
      onWrongWhole: () => undefined,
      onFinal: () => undefined,
      onDropped: () => undefined,
    },
    { holders: guide.holders(metainfo), metainfo },
  );
}

/** A blob that an origin fetches from an upstream for this reader; bytes that came before a lie may be seen in parts. */
async function coldFetch(truth: Truth, chance: Chance, lies: boolean): Promise<ReadableBlob> {
  const { digest } = truth;
  const log = silentLogger();
  const store = await BlobStore.open(
    { files: new CrashFiles('/d'), dir: '/d', log, nowMs: Date.now },
    { durable: true, bootId: 'one', mapDelayMs: 1e6 },
  );
  const none = (): void => undefined;
  const told = { started: none, landed: none, restarted: none, cameWrong: none, ended: none };
  const fetch = new Fetch(
    {
      store,
      client: new FaultyUpstream(truth, chance, { lies }).client,
      room: { require: none },
      log,
      nowMs: Date.now,
      events: { ...told, peerPieces: () => undefined },
      onUpstreamBytes: none,
    },
    { upstream: 'hub', repository: NAME, digest },
    {
      sizeHint: chance.next() < 0.5 ? truth.bytes.length : undefined,
      wantAll: chance.next() < 0.6,
      progressMs: 10_000,
      firstByteMs: 60_000,
      lingerMs: 10_000,
    },
  );
  fetch.start();
  const { signal } = new AbortController();
  await fetch.whenSized(signal);
  if (fetch.partial !== undefined) return fetch.open();
  await fetch.whenFinal(signal);
  const handle = await store.open(digest);
  const mend = { mend: () => Promise.reject(new CodedError('DISK_CORRUPT')), lookBehind: none };
  return storedBlob(handle!, mend, { asIs: false });
}

const PATHS: Readonly<Record<string, (truth: Truth, chance: Chance) => Promise<ReadableBlob>>> = {
  'a stored blob of an origin': async (truth, chance) =>
    storedBlob(
      await stored(truth, chance),
      { mend: async (_digest, piece) => await mendOf(truth, piece, chance), lookBehind: () => undefined },
      { asIs: chance.next() < 0.3 },
    ),
  'a cached blob of an agent': async (truth, chance) =>
    new CachedBlob(await stored(truth, chance), (piece) => mendOf(truth, piece, chance)),
  'a download of an agent, resumed past its full disk': async (truth, chance) =>
    new EnduringBlob(download(truth, chance), () => passage(truth, chance)),
  'a cold fetch of an origin, whose upstream breaks off': async (truth, chance) =>
    await coldFetch(truth, chance, false),
  [LYING]: async (truth, chance) => await coldFetch(truth, chance, true),
};

/** Undefined for a blob that could not be opened, as its source said. */
async function refusedOr(opening: Promise<ReadableBlob>): Promise<ReadableBlob | undefined> {
  return await opening.catch((error: unknown) => {
    if (error instanceof CodedError) return undefined;
    throw error;
  });
}

async function run(path: string, truth: Truth, chance: Chance, isSeveral: boolean) {
  const time = new VirtualTime().install();
  try {
    const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
    const blob = await time.settle(refusedOr(PATHS[path]!(truth, chance)));
    if (blob === undefined) return { complete: false, status: 503, right: false };
    app.use(async (ctx) => {
      await serveBlob(ctx, blob, {
        contentType: 'application/octet-stream',
        stallMs: 30_000,
        firstPieceMs: 60_000,
      });
    });
    const { bytes } = truth;
    const from = chance.below(bytes.length);
    const to = Math.min(bytes.length - 1, from + chance.below(2 * PIECE_BYTES));
    const [range, expected] = (
      [
        [undefined, bytes],
        [`bytes=${from}-`, bytes.subarray(from)],
        [`bytes=${from}-${to}`, bytes.subarray(from, to + 1)],
        [`bytes=-${bytes.length - from}`, bytes.subarray(from)],
      ] as const
    )[path === LYING ? 0 : chance.below(4)]!;
    const several = twoRanges(bytes.length);
    const asked = isSeveral ? several.header : range;
    const slow = chance.next() < 0.3;
    const answer = await time.settle(
      virtualGet(app.callback(), '/', {
        headers: asked === undefined ? {} : { range: asked },
        takesMs: () => (slow && chance.next() < 0.1 ? chance.below(1_500) : undefined),
      }),
    );
    const wanted = isSeveral ? severalParts(answer, bytes, several.ranges) : expected;
    const complete = answer.complete && answer.status < 300;
    return { complete, status: answer.status, right: answer.body.equals(wanted) };
  } finally {
    time.uninstall();
  }
}

for (const path of Object.keys(PATHS))
  t.test(`${path}: no body is completed with wrong bytes, whatever its source does`, async (t) => {
    const wrong: string[] = [];
    const count = { right: 0, cut: 0, refused: 0 };
    for (let seed = 1; seed <= RUNS; seed++) {
      const truth = TRUTHS[(seed * 7) % TRUTHS.length]!;
      const isSeveral = path !== LYING && seed % SEVERAL_EVERY === 0;
      const outcome = await run(path, truth, new Chance(seed), isSeveral).catch((cause: unknown) => {
        throw new Error(`seed ${seed}`, { cause });
      });
      if (outcome.status === 500) wrong.push(`seed ${seed}: a bug`);
      else if (outcome.complete && !outcome.right) wrong.push(`seed ${seed}`);
      else if (outcome.complete) count.right += 1;
      else if (outcome.status < 300) count.cut += 1;
      else count.refused += 1;
    }
    t.comment(JSON.stringify(count));
    t.same(wrong, [], `wrong bytes completed in ${RUNS} runs`);
    t.ok(
      count.right > 0 && count.cut + count.refused > 0,
      `some hold, some do not: ${JSON.stringify(count)}`,
    );
  });
