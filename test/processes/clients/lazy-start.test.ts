import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, must, startRegistry, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';
import { Containerd24, containerd24 } from './support/containerd24.ts';

const ROOT = join(import.meta.dirname, '../../..');
const HOST = 'registry.example:5000';
const IMAGE = `${HOST}/t/python:oci`;
const HELLO = /^hello from python 3\./;

function whyNot(): string | undefined {
  return (
    whyNoClients() ??
    (containerd24() === undefined ? 'run test/processes/clients/support/containerd24.sh' : undefined)
  );
}

interface Layer {
  readonly digest: string;
  readonly size: number;
}

t.test(
  'an unconverted image starts on stock containerd before its layers are there',
  { skip: whyNot() ?? false, timeout: 600_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-lazy-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    await startRegistry(t, port);
    await testbed('make-image.sh', ['python', join(dir, 'oci')]);
    await testbed('make-image.sh', ['push', `${join(dir, 'oci')}:python`, `127.0.0.1:${port}/t/python:oci`]);
    await using up = await Up.start(join(dir, 'up'), [
      ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1'],
      ...['--upstream', `local-registry=http://127.0.0.1:${port},${HOST}`, '--ports-from', '22000'],
    ]);
    const layers = await layersOf(port);
    const indexes = [];
    for (const { digest } of layers) {
      const file = join(dir, digest.slice(7));
      const blob = await fetch(`http://127.0.0.1:${port}/v2/t/python/blobs/${digest}`);
      writeFileSync(file, new Uint8Array(await blob.arrayBuffer()));
      await must(join(ROOT, 'sepia'), ['lazy', 'index', file, '--out', `${file}.lazy`]);
      indexes.push(`${file}.lazy`);
    }
    const daemon = await Daemon.start(dir, { agent: up.cluster.agents[0]!.url, indexes });
    t.teardown(() => daemon.end());
    const containerd = await Containerd24.start(join(dir, 'c'), {
      contentCache: join(dir, 'content'),
      mirrors: { [HOST]: up.cluster.agents[0]!.url },
    });
    t.teardown(() => containerd.stop());

    await t.test('pull and run: no layer is downloaded', async (t) => {
      await containerd.pull(IMAGE);
      const content = await containerd.content();
      t.same(
        layers.filter((layer) => content.includes(layer.digest)),
        [],
        'the content store holds no layer',
      );
      const { stdout, stderr, code } = await containerd.run(IMAGE, 'first');
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
      const total = layers.reduce((sum, layer) => sum + layer.size, 0);
      const fetched = await daemon.fetchedBytes();
      t.ok(fetched > 0 && fetched < 0.6 * total, `${fetched} of ${total} compressed bytes were read`);
    });

    await t.test('the daemon is killed: who reads waits for the next one', async (t) => {
      const before = await daemon.pid();
      const running = containerd.run(IMAGE, 'second', ['python3', '-c', WALK]);
      process.kill(before, 'SIGKILL');
      const { stdout, stderr, code } = await running;
      t.equal(code, 0, stderr);
      t.match(stdout, /^[1-9]\d* files, [0-9a-f]{64}\n$/);
      t.not(await daemon.pid(), before);
      const again = await containerd.run(IMAGE, 'third', ['python3', '-c', WALK]);
      t.equal(again.stdout, stdout, 'the same bytes');
    });
  },
);

/** Reads every file of the image and hashes names and bytes. */
const WALK = `
import hashlib, os
h, n = hashlib.sha256(), 0
for folder, dirs, files in os.walk("/", followlinks=False):
    dirs[:] = sorted(d for d in dirs if folder != "/" or d not in ("proc", "sys", "dev", "run", "tmp"))
    for name in sorted(files):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path) or path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"): continue
        with open(path, "rb") as f:
            h.update(path.encode()); h.update(f.read()); n += 1
print(f"{n} files, {h.hexdigest()}")
`;

async function layersOf(port: number): Promise<Layer[]> {
  const answer = await fetch(`http://127.0.0.1:${port}/v2/t/python/manifests/oci`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  return ((await answer.json()) as { layers: Layer[] }).layers;
}

/** `sepia snapshotter` of this test. */
class Daemon {
  readonly #dir: string;
  readonly #admin: string;

  private constructor(dir: string, admin: string) {
    this.#dir = dir;
    this.#admin = admin;
  }

  static async start(dir: string, options: { agent: string; indexes: readonly string[] }): Promise<Daemon> {
    const admin = `127.0.0.1:${await freePort()}`;
    const config = {
      data: join(dir, 'snapshotter'),
      'admin-listen': admin,
      agent: options.agent,
      mount: join(dir, 'mnt'),
      'content-cache': join(dir, 'content'),
      layers: options.indexes.map((index) => ({ index, image: `${HOST}/t/python` })),
    };
    writeFileSync(join(dir, 'snapshotter.yaml'), JSON.stringify(config));
    const daemon = new Daemon(dir, admin);
    const node = process.execPath;
    const main = join(ROOT, 'snapshotter/src/main.ts');
    // The command only sees to it that the holder runs; its end leaves the mount.
    const command = spawn(node, [main, '--config', join(dir, 'snapshotter.yaml')], { stdio: 'inherit' });
    await until(async () => (await daemon.#get('/readyz')) !== undefined, 'the daemon is ready', 90_000);
    command.kill('SIGTERM');
    return daemon;
  }

  async fetchedBytes(): Promise<number> {
    const metrics = (await this.#get('/metrics')) ?? '';
    return Number(/^sepia_snapshotter_fetched_bytes_total\{.*\} (\d+)/m.exec(metrics)?.[1]);
  }

  /** Process of the daemon, waited for. */
  async pid(): Promise<number> {
    await until(async () => (await this.#get('/readyz')) !== undefined, 'the daemon is ready', 60_000);
    const holder = this.#holder();
    const children = readFileSync(`/proc/${holder}/task/${holder}/children`, 'utf8').trim().split(' ');
    return Number(children[0]);
  }

  async end(): Promise<void> {
    process.kill(this.#holder(), 'SIGTERM');
    const isMounted = (): boolean =>
      readFileSync('/proc/self/mountinfo', 'utf8').includes(`${this.#dir}/mnt`);
    await until(() => !isMounted(), 'the mount is gone', 60_000);
  }

  #holder(): number {
    return Number(readFileSync(join(this.#dir, 'snapshotter/holder.pid'), 'utf8'));
  }

  async #get(path: string): Promise<string | undefined> {
    try {
      const answer = await fetch(`http://${this.#admin}${path}`);
      return answer.ok ? await answer.text() : undefined;
    } catch {
      return undefined;
    }
  }
}
