import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { runHeard } from '@sepia/test-support/clients/heard';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { freePort, must, startRegistry, testbed } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t, { type Test } from 'tap';
import type { Part } from './support/lazy-cluster.ts';
import { whyNoLazyNode } from './support/lazy-node.ts';
import { Relay } from './support/relay.ts';

const SEPIA = join(import.meta.dirname, '../../../sepia');
const HOST = 'registry.example:5000';
const IMAGE = `${HOST}/t/big:oci`;
/** Size of the image's one large file, in units of 10⁶ bytes. */
const FILE_MB = 200;
/** What its program reads of it, in MiB: an eighth. */
const READ_MIB = 24;
const MAX_SHARE = 0.35;
/** Where a MiB lies that it reads later. */
const LATER_MIB = 160;
const MIB = 1024 * 1024;
/** A read that fails takes five of them, since the kernel asks again: they must be over within the time of a client. */
const READ_DEADLINE = '20s';

interface Here {
  readonly dir: string;
  readonly layers: readonly Part[];
  readonly upstream: Relay;
  /** Between the daemon and its agent. */
  readonly toAgent: Relay;
  readonly daemon: LazyDaemon;
  readonly containerd: Containerd24;
}

/** An image of 200 MB with indexes made from its files: nothing of it was pulled when its first start begins. */
async function start(t: Test): Promise<Here> {
  const dir = mkdtempSync(join(tmpdir(), 'sepia-ls-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const port = await freePort();
  await startRegistry(t, port);
  const oci = join(dir, 'oci');
  await testbed('make-image.sh', ['big', oci, String(FILE_MB)]);
  await testbed('make-image.sh', ['push', `${oci}:big${FILE_MB}x1`, `127.0.0.1:${port}/t/big:oci`]);
  const layers = layersOf(oci);
  const indexes = layers.map(({ digest }) => join(dir, `${digest.slice(7)}.lazy`));
  for (const [at, { digest }] of layers.entries())
    await must(SEPIA, ['lazy', 'index', blobOf(oci, digest), '--out', indexes[at]!]);
  const upstream = await Relay.to(t, port);
  const up = await Up.start(join(dir, 'up'), [
    ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1'],
    ...['--upstream', `local-registry=http://127.0.0.1:${upstream.port},${HOST}`, '--ports-from', '22000'],
  ]);
  t.teardown(() => up.stop());
  const agent = up.cluster.agents[0]!.url;
  const toAgent = await Relay.to(t, Number(new URL(agent).port));
  const daemon = await LazyDaemon.start(t, dir, {
    agent: `http://127.0.0.1:${toAgent.port}`,
    image: `${HOST}/t/big`,
    indexes,
    readDeadline: READ_DEADLINE,
  });
  const containerd = await Containerd24.start(join(dir, 'c'), {
    contentCache: join(dir, 'content'),
    mirrors: { [HOST]: agent },
  });
  t.teardown(() => containerd.stop());
  return { dir, layers, upstream, toAgent, daemon, containerd };
}

function blobOf(oci: string, digest: string): string {
  return join(oci, 'blobs/sha256', digest.slice(7));
}

function layersOf(oci: string): readonly Part[] {
  const { manifests } = JSON.parse(readFileSync(join(oci, 'index.json'), 'utf8')) as { manifests: Part[] };
  const text = readFileSync(blobOf(oci, manifests[0]!.digest), 'utf8');
  return (JSON.parse(text) as { layers: Part[] }).layers;
}

/** A shell line that reads MiBs of the large file and prints their SHA-256. */
const reading = (skip: number, count: number): string =>
  `dd if=/data/noise1.bin bs=1048576 skip=${skip} count=${count} > /tmp/read && sha256sum < /tmp/read`;

/** SHA-256 of what the programs read, from the layer itself. */
async function rightSha256(dir: string, blob: string): Promise<{ first: string; later: string }> {
  const file = join(dir, 'noise');
  await must('sh', ['-c', `tar -xzOf ${blob} ./data/noise1.bin > ${file}`]);
  const hash = (from: number, count: number): string =>
    createHash('sha256')
      .update(readFileSync(file).subarray(from * MIB, (from + count) * MIB))
      .digest('hex');
  const found = { first: hash(0, READ_MIB), later: hash(LATER_MIB, 1) };
  rmSync(file);
  return found;
}

t.test(
  'a start costs what is read: no layer is stored, and an agent that is away costs nothing but new bytes',
  {
    skip: whyNoLazyNode() ?? false,
    timeout: 900_000,
  },
  async (t) => {
    const { dir, layers, upstream, toAgent, daemon, containerd } = await start(t);
    const total = layers.reduce((sum, { size }) => sum + size, 0);
    const sha256 = async (name: string, skip: number, count: number): ReturnType<Containerd24['run']> =>
      await runHeard(containerd, IMAGE, name, reading(skip, count));
    const right = await rightSha256(dir, blobOf(join(dir, 'oci'), layers.at(-1)!.digest));

    await t.test('the content store holds no layer, the upstream sent no more than 35 %', async (t) => {
      await containerd.pull(IMAGE);
      const { code, stdout, stderr } = await sha256('first', 0, READ_MIB);
      t.equal(code, 0, stderr);
      t.match(stdout, right.first);
      const content = await containerd.content();
      t.same(
        layers.filter(({ digest }) => content.includes(digest)),
        [],
      );
      const fetched = await daemon.fetchedBytes();
      t.comment(`of ${total} bytes: the upstream sent ${upstream.received}, the node fetched ${fetched}`);
      t.ok(upstream.received > READ_MIB * 1_000_000, 'what was read came from there');
      t.ok(upstream.received <= MAX_SHARE * total, `${upstream.received} of ${total}`);
    });

    await t.test(
      'cut off from the agent: new bytes are waited for, then EIO; the rest is read',
      async (t) => {
        toAgent.cut();
        const ending = sha256('away', LATER_MIB, 1);
        // One that ends at once is told by its end, not by a minute of silence.
        const early = ending.then((end) => {
          throw new Error(`it ended before any read waited: ${JSON.stringify(end)}`);
        });
        const waits = until(async () => (await daemon.waitingReads()) > 0, 'a read waits', 180_000);
        await Promise.race([waits, early]);
        const { code, stderr } = await ending;
        t.not(code, 0);
        t.match(stderr, /Input\/output error/i);
        t.match((await sha256('here', 0, READ_MIB)).stdout, right.first);
      },
    );

    await t.test('the agent is back: it heals', async (t) => {
      toAgent.heal();
      const { stdout, stderr } = await sha256('back', LATER_MIB, 1);
      t.match(stdout, right.later, stderr);
      t.ok(upstream.received <= MAX_SHARE * total, `${upstream.received} of ${total}`);
      t.ok(readdirSync(join(dir, 'content')).length > 0, 'it is shown still');
    });
  },
);
