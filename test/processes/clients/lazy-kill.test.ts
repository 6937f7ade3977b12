import { createHash } from 'node:crypto';
import { accessSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { must, run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { LazyDaemon } from './support/lazy-daemon.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 8);
const FILE_BYTES = 3 * 1024 * 1024;

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root to mount';
  try {
    for (const file of ['/dev/fuse', '/dev/loop-control']) accessSync(file);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** An agent that can hold its answers back. */
class HeldAgent {
  readonly #blob: Buffer;
  readonly #held: (() => void)[] = [];
  isHolding = false;
  readonly server = createServer((request, response) => this.#answer(request.headers.range ?? '', response));

  constructor(blob: Buffer) {
    this.#blob = blob;
  }

  get held(): number {
    return this.#held.length;
  }

  release(): void {
    this.isHolding = false;
    for (const send of this.#held.splice(0)) send();
  }

  #answer(range: string, response: ServerResponse): void {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
    const bytes = this.#blob.subarray(Number(first), Number(last) + 1);
    const send = (): void => {
      response.writeHead(206, { 'content-range': `bytes ${first}-${last}/${this.#blob.length}` }).end(bytes);
    };
    if (this.isHolding) this.#held.push(send);
    else send();
  }
}

interface Mounted {
  readonly agent: HeldAgent;
  readonly daemon: LazyDaemon;
  /** Holds `file-0` and on, with these contents. */
  readonly tree: string;
  readonly files: readonly Buffer[];
}

/** A layer of `count` files, mounted through a daemon whose agent can be held. */
async function mounted(
  t: { teardown(done: () => unknown): void },
  count: number,
  readDeadline: string,
): Promise<Mounted> {
  const dir = mkdtempSync('/tmp/sepia-kill-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const files = Array.from({ length: count }, (_none, index) => noise(index, FILE_BYTES));
  const tar = writeTar(files.map((payload, index) => ({ name: `file-${index}`, payload, mode: 0o644 })));
  const blob = gzipSync(tar, { level: 1 });
  const indexer = new LayerIndexer();
  indexer.push(blob);
  writeFileSync(join(dir, 'index'), indexer.end().bytes);
  const agent = new HeldAgent(blob);
  await new Promise<void>((settle) => agent.server.listen(0, '127.0.0.1', settle));
  t.teardown(() => {
    agent.server.closeAllConnections();
    agent.server.close();
  });
  const { port } = agent.server.address() as AddressInfo;
  const daemon = await LazyDaemon.start(dir, {
    agent: `http://127.0.0.1:${port}`,
    image: 'registry.example/t/kill',
    indexes: [join(dir, 'index')],
    readDeadline,
  });
  t.teardown(() => daemon.end());
  const tree = join(dir, 'tree');
  mkdirSync(tree);
  const [image] = readdirSync(join(dir, 'mnt'));
  await must('mount', ['-t', 'erofs', '-o', 'ro,loop', join(dir, 'mnt', image!), tree]);
  t.teardown(async () => {
    agent.release();
    await must('umount', [tree]);
  });
  return { agent, daemon, tree, files };
}

const OPTIONS = { skip: whyNot() ?? false, timeout: 600_000 };

t.test('the daemon is killed with a read in flight: the reader gets the right bytes', OPTIONS, async (t) => {
  const { agent, daemon, tree, files } = await mounted(t, ROUNDS + 1, '60s');
  for (let round = 1; round <= ROUNDS; round++) {
    const before = await daemon.pid();
    agent.isHolding = true;
    const reading = run('sha256sum', [join(tree, `file-${round}`)]);
    await until(() => agent.held > 0, 'a read waits for the agent', 60_000);
    const held = agent.held;
    process.kill(before, 'SIGKILL');
    await until(async () => (await daemon.pid()) !== before, 'the next daemon', 60_000);
    await until(() => agent.held > held, 'the kernel has sent the read again', 60_000);
    agent.release();
    const { code, stdout, stderr } = await reading;
    t.equal(code, 0, stderr);
    t.equal(stdout.split(' ')[0], createHash('sha256').update(files[round]!).digest('hex'), `round ${round}`);
  }
});

t.test(
  'an agent that is silent: EIO at the deadline, what is here stays readable, then it heals',
  OPTIONS,
  async (t) => {
    const { agent, tree, files } = await mounted(t, 3, '2s');
    const read = (index: number): ReturnType<typeof run> => run('sha256sum', [join(tree, `file-${index}`)]);
    const digest = (index: number): string => createHash('sha256').update(files[index]!).digest('hex');
    t.match((await read(0)).stdout, digest(0));
    agent.isHolding = true;
    const failed = await read(2);
    t.not(failed.code, 0);
    t.match(failed.stderr, /Input\/output error/);
    t.match((await read(0)).stdout, digest(0), 'what is here needs no agent');
    agent.release();
    t.match((await read(2)).stdout, digest(2), 'the next read works');
  },
);
