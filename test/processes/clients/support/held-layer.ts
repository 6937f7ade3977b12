import { accessSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { must } from '@sepia/test-support/testbed';
import { noise } from '../../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../../shared/lazy/test/support/tar-writer.ts';

const FILE_BYTES = 3 * 1024 * 1024;

/** Why nothing can be mounted here. */
export function whyNoMount(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root to mount';
  try {
    for (const file of ['/dev/fuse', '/dev/loop-control']) accessSync(file);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** An agent that can hold its answers back. */
export class HeldAgent {
  readonly #blob: Buffer;
  readonly #held: (() => void)[] = [];
  isHolding = false;
  readonly #server = createServer((request, response) => this.#answer(request.headers.range ?? '', response));
  #port = 0;

  constructor(blob: Buffer) {
    this.#blob = blob;
  }

  get held(): number {
    return this.#held.length;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Answers, at the same port as before. */
  async begin(): Promise<void> {
    await new Promise<void>((settle) => this.#server.listen(this.#port, '127.0.0.1', settle));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** As if its process were killed: connections end in the middle of what they wait for, and nobody listens. */
  async kill(): Promise<void> {
    this.isHolding = false;
    this.#held.length = 0;
    const closed = new Promise((settle) => this.#server.close(settle));
    this.#server.closeAllConnections();
    await closed;
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

export interface HeldLayer {
  readonly agent: HeldAgent;
  readonly daemon: LazyDaemon;
  /** Holds `file-0` and on, with these contents. */
  readonly tree: string;
  readonly files: readonly Buffer[];
}

/** A layer of `count` files, mounted through a daemon whose agent can be held; its data on a disk of `diskMiB`, if that is given. */
export async function mountHeldLayer(
  t: { teardown(done: () => unknown): void },
  count: number,
  { readDeadline, diskMiB }: { readonly readDeadline: string; readonly diskMiB?: number },
): Promise<HeldLayer> {
  const dir = mkdtempSync(join(tmpdir(), 'sepia-kill-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  if (diskMiB !== undefined) {
    const data = join(dir, 'snapshotter');
    mkdirSync(data);
    await must('mount', ['-t', 'tmpfs', '-o', `size=${diskMiB}m`, 'tmpfs', data]);
    t.teardown(() => must('umount', ['--lazy', data]));
  }
  const files = Array.from({ length: count }, (_none, index) => noise(index, FILE_BYTES));
  const tar = writeTar(files.map((payload, index) => ({ name: `file-${index}`, payload, mode: 0o644 })));
  const blob = gzipSync(tar, { level: 1 });
  const indexer = new LayerIndexer();
  indexer.push(blob);
  writeFileSync(join(dir, 'index'), indexer.end().bytes);
  const agent = new HeldAgent(blob);
  await agent.begin();
  t.teardown(() => agent.kill());
  const daemon = await LazyDaemon.start(t, dir, {
    agent: agent.url,
    image: 'registry.example/t/kill',
    indexes: [join(dir, 'index')],
    readDeadline,
  });
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
