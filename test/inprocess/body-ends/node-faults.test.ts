import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { severalParts, twoRanges, type VirtualAnswer, virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { TagMemory } from '../../../agent/src/manifests/tag-memory.ts';
import { type Content, type Truth, truthOf } from '../../../proxy/test/support/answers.ts';
import { CrashFiles } from '../../../shared/store/test/crash-files.ts';
import { FaultyCluster, seeder } from './faulty-cluster.ts';
import { FaultyDisk } from './faulty-disk.ts';
import { type Came, faultyNode } from './faulty-node.ts';
import { FaultyUpstream } from './faulty-upstream.ts';
import { MemoryNet } from './memory-net.ts';

/** Of each path. */
const RUNS = Number(process.env['SEPIA_FAULT_RUNS'] ?? 25);
const NEVER_MS = 1e9;
/** A node's requests of a run: two at once, then, on a disk that fell ill, two more. */
const AT_ONCE = 2;
const TRUTHS = [100_000, 300_000, PIECE_BYTES, 2 * PIECE_BYTES + 77_777].map((size) =>
  truthOf(Buffer.from(seededBytes(size, `node-${size}`))),
);

interface Path {
  /** Where its content comes from: other nodes and origins, or the upstream alone. */
  readonly from: 'swarm' | 'source';
  readonly asks: 'blob' | 'blob head' | 'manifest' | 'manifest head';
  readonly lies?: boolean;
  /** What must have come over all runs, so that they show something. */
  readonly needs: readonly (keyof Came | 'cut' | 'refused')[];
  /** Runs that once told a bug: every origin sent a wrong copy of a piece that had rotted here. */
  readonly found?: readonly number[];
}

const PATHS: Readonly<Record<string, Path>> = {
  "an agent's swarm": {
    from: 'swarm',
    asks: 'blob',
    needs: ['peer', 'origin', 'cache', 'badPieces', 'refused'],
    found: [111, 114, 180],
  },
  'back-to-source, from an upstream that breaks off': {
    from: 'source',
    asks: 'blob',
    needs: ['upstream', 'cache', 'cut', 'refused'],
  },
  'back-to-source, from an upstream that lies': {
    from: 'source',
    asks: 'blob',
    lies: true,
    needs: ['upstream', 'cache', 'cut', 'refused'],
  },
  'HEAD of a blob at an agent': { from: 'swarm', asks: 'blob head', needs: ['refused'] },
  'HEAD of a blob at an agent that is alone': { from: 'source', asks: 'blob head', needs: ['refused'] },
  'a manifest at an agent': { from: 'swarm', asks: 'manifest', needs: ['refused'] },
  'a manifest at an agent that is alone': {
    from: 'source',
    asks: 'manifest',
    lies: true,
    needs: ['refused'],
  },
  'HEAD of a manifest at an agent': { from: 'swarm', asks: 'manifest head', needs: ['refused'] },
};

/** One request, and what a whole answer to it holds. */
interface Asked {
  readonly method: 'GET' | 'HEAD';
  readonly url: string;
  readonly range?: string;
  readonly isRight: (answer: VirtualAnswer) => boolean;
}

function manifestOf(truth: Truth): Content {
  const layers = [{ mediaType: 'application/octet-stream', digest: truth.digest, size: truth.bytes.length }];
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers }));
  return { bytes, digest: digestOf(bytes) };
}

const holds = (expected: Buffer) => (answer: VirtualAnswer) => answer.body.equals(expected);
const states =
  ({ bytes }: Content) =>
  ({ headers, body }: VirtualAnswer) =>
    headers['content-length'] === String(bytes.length) && body.length === 0;

function askBlob(truth: Truth, url: string, chance: Chance, lies: boolean): Asked {
  const { bytes } = truth;
  const from = chance.below(bytes.length);
  const to = Math.min(bytes.length - 1, from + chance.below(2 * PIECE_BYTES));
  const several = twoRanges(bytes.length);
  const forms: readonly Omit<Asked, 'method' | 'url'>[] = [
    { isRight: holds(bytes) },
    { range: `bytes=${from}-`, isRight: holds(bytes.subarray(from)) },
    { range: `bytes=${from}-${to}`, isRight: holds(bytes.subarray(from, to + 1)) },
    { range: `bytes=-${bytes.length - from}`, isRight: holds(bytes.subarray(from)) },
    {
      range: several.header,
      isRight: (answer) => answer.body.equals(severalParts(answer, bytes, several.ranges)),
    },
  ];
  // Nothing proves a part of a blob whose bytes nobody has seen whole.
  return { method: 'GET', url, ...forms[chance.below(lies ? 1 : forms.length)]! };
}

function ask(path: Path, truth: Truth, manifest: Content, chance: Chance): Asked {
  const ns = path.from === 'source' ? '?ns=registry.example' : '';
  const blob = `/v2/app/blobs/${truth.digest}${ns}`;
  const reference = chance.next() < 0.5 ? 'v1' : manifest.digest;
  const url = `/v2/app/manifests/${reference}${ns}`;
  if (path.asks === 'blob') return askBlob(truth, blob, chance, path.lies === true);
  if (path.asks === 'blob head') return { method: 'HEAD', url: blob, isRight: states(truth) };
  if (path.asks === 'manifest') return { method: 'GET', url, isRight: holds(manifest.bytes) };
  return { method: 'HEAD', url, isRight: states(manifest) };
}

interface Outcome {
  readonly asked: Asked;
  readonly answer: VirtualAnswer;
}

/** Some requests at one node, and where their bytes came from. */
async function session(
  path: Path,
  truth: Truth,
  chance: Chance,
  tags: TagMemory,
): Promise<{ readonly outcomes: readonly Outcome[]; readonly came: Came }> {
  const manifest = manifestOf(truth);
  const net = new MemoryNet(chance, true);
  const isCold = chance.next() < 0.4;
  const peers = await Promise.all(
    Array.from({ length: isCold ? 0 : chance.below(4) }, (_, at) => seeder(`node-${at}`, truth, net, chance)),
  );
  const facts = {
    weather: {
      timing: chance.next() < 0.8,
      wrong: chance.next() < 0.6,
      fetchRate: isCold ? [PIECE_BYTES, 700_000][chance.below(2)]! : undefined,
    },
    peers: peers.map(({ entry }) => entry),
    deadAfterMs: path.from === 'source' ? 0 : chance.next() < 0.3 ? chance.below(20_000) : NEVER_MS,
    manifest,
  };
  const disk = new FaultyDisk(new CrashFiles('/d'), chance);
  const node = await faultyNode({
    cluster: new FaultyCluster(truth, facts, chance),
    upstream: new FaultyUpstream(truth, chance, { lies: path.lies === true, manifest }).client,
    files: disk,
    net,
    tags,
  });
  const one = async (): Promise<Outcome> => {
    const asked = ask(path, truth, manifest, chance);
    const { method, range } = asked;
    const slow = chance.next() < 0.3;
    const answer = await virtualGet(node.listener, asked.url, {
      method,
      headers: range === undefined ? {} : { range },
      takesMs: () => (slow && chance.next() < 0.1 ? chance.below(1_500) : undefined),
    });
    return { asked, answer };
  };
  const outcomes = await Promise.all(Array.from({ length: AT_ONCE }, one));
  disk.fallIll({ passing: chance.next() < 0.7 ? 0.05 : 0, lasting: chance.next() < 0.7 ? 0.03 : 0 });
  outcomes.push(await one(), await one());
  await node.stop();
  await Promise.all(peers.map(({ engine }) => engine.stop()));
  return { outcomes, came: node.came };
}

for (const [name, path] of Object.entries(PATHS))
  t.test(`${name}: no answer is completed with wrong bytes, whatever its sources do`, async (t) => {
    const wrong: string[] = [];
    const broken: string[] = [];
    const count: Record<string, number> = { right: 0, cut: 0, refused: 0 };
    const add = (what: string, many = 1): void => {
      count[what] = (count[what] ?? 0) + many;
    };
    for (const seed of [...(path.found ?? []), ...Array.from({ length: RUNS }, (_, at) => at + 1)]) {
      // In a folder that is not there: what is seen of tags dies with the run.
      const tags = await TagMemory.open(join(t.testdir(), 'gone', 'tags.json'), silentLogger());
      const time = new VirtualTime().install();
      try {
        const truth = TRUTHS[(seed * 7) % TRUTHS.length]!;
        const { outcomes, came } = await time.settle(session(path, truth, new Chance(seed), tags));
        for (const { asked, answer } of outcomes) {
          const isWhole = answer.complete && answer.status < 300;
          if (answer.status === 500 || answer.status === 0) broken.push(`seed ${seed}: ${answer.body}`);
          if (isWhole && !asked.isRight(answer)) wrong.push(`seed ${seed}: ${asked.range ?? asked.url}`);
          else if (isWhole) add('right');
          else if (answer.status < 300) add('cut');
          else add('refused');
        }
        for (const [what, many] of Object.entries(came)) add(what, many);
      } catch (cause) {
        throw new Error(`seed ${seed}`, { cause });
      } finally {
        time.uninstall();
      }
    }
    t.comment(JSON.stringify(count));
    t.same(wrong, [], `wrong bytes completed in ${RUNS} runs`);
    t.same(broken, [], 'no bug is told as an answer');
    for (const what of ['right', ...path.needs]) t.ok((count[what] ?? 0) > 0, `${what}: some`);
  });
