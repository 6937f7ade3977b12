import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import { freePort, must, run, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t, { type Test } from 'tap';
import { treeWalk, walked } from '../processes/clients/support/tree-walk.ts';

/** Nydus's snapshotter and daemon start what we convert. They are not run with the other tests: building them takes minutes. */
const SNAPSHOTTER = process.env['NYDUS_SNAPSHOTTER'] ?? '/usr/bin/containerd-nydus-grpc';
const NYDUSD = process.env['NYDUSD'] ?? '/usr/bin/nydusd';
const ROOT = join(import.meta.dirname, '../..');

function whyNot(): string | undefined {
  if (!existsSync('/dev/fuse')) return 'needs /dev/fuse';
  if (!existsSync(SNAPSHOTTER) || !existsSync(NYDUSD))
    return 'needs nydus-snapshotter and nydusd: docs/adr/0066-nydus.md says how; NYDUS_SNAPSHOTTER=…, NYDUSD=…';
  return whyNoClients();
}

/** A nydus-snapshotter that starts a nydusd for each image; `dir`: short, sockets lie there. @returns its socket */
async function startSnapshotter(t: Test, dir: string): Promise<string> {
  mkdirSync(dir);
  const socket = join(dir, 'n.sock');
  // Containers of a CI may not raise the limit that nydusd wants for itself.
  const program = join(dir, 'nydusd');
  writeFileSync(program, `#!/bin/sh\nmode=$1; shift\nexec '${NYDUSD}' "$mode" --rlimit-nofile 0 "$@"\n`, {
    mode: 0o755,
  });
  const nydusd = {
    device: {
      backend: {
        type: 'registry',
        config: { scheme: 'http', skip_verify: true, timeout: 30, retry_limit: 2 },
      },
      cache: { type: 'blobcache', config: { work_dir: 'cache' } },
    },
    ...{ mode: 'direct', digest_validate: false, iostats_files: false, enable_xattr: true },
    fs_prefetch: { enable: false },
  };
  writeFileSync(join(dir, 'nydusd.json'), JSON.stringify(nydusd));
  const config = `version = 1
root = "${join(dir, 'root')}"
address = "${socket}"
daemon_mode = "dedicated"
cleanup_on_close = true
[system]
enable = false
[daemon]
nydusd_path = "${program}"
nydusd_config = "${join(dir, 'nydusd.json')}"
fs_driver = "fusedev"
recover_policy = "restart"
[log]
log_to_stdout = true
level = "info"
[metrics]
address = ""
[snapshot]
enable_nydus_overlayfs = false
`;
  writeFileSync(join(dir, 'config.toml'), config);
  const log = openSync(join(dir, 'log'), 'a');
  const child = spawn(SNAPSHOTTER, ['--config', join(dir, 'config.toml')], {
    stdio: ['ignore', log, log],
    detached: true,
  });
  const gone = new Promise((settle) => child.once('exit', settle));
  t.teardown(async () => {
    child.kill('SIGTERM');
    await gone;
    for (const mount of nydusMounts(dir).reverse()) await run('umount', ['-l', mount]);
  });
  await until(() => existsSync(socket) || child.exitCode !== null, 'nydus-snapshotter serves', 60_000);
  if (child.exitCode !== null) throw new Error(readFileSync(join(dir, 'log'), 'utf8').slice(-2_000));
  return socket;
}

function nydusMounts(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(' - fuse') && line.includes(`${dir}/`))
    .map((line) => line.split(' ')[4]!);
}

t.test(
  'nydus-snapshotter starts what we convert, read through an agent, and its tree is that of the source',
  { skip: whyNot() ?? false, timeout: 900_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-ns-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    const registry = `127.0.0.1:${port}`;
    await startMadeRegistry(t, port, 'python');
    const [from, to] = [`${registry}/t/python:oci`, `${registry}/t/python:nydus`];
    await must(join(ROOT, 'sepia'), ['convert', from, to, '--to', 'nydus', '--work-dir', join(dir, 'w')]);
    await using up = await Up.start(join(dir, 'up'), [
      ...['--agents', '1', '--upstream', `up=http://${registry}`, '--ports-from', '21500'],
    ]);
    const agent = new URL(up.cluster.agents[0]!.url).host;
    const containerd = await Containerd16.start(join(dir, 'c'), {
      ...{ snapshotsSocket: await startSnapshotter(t, join(dir, 'n')), snapshotter: 'nydus' },
      mirrors: { [agent]: `http://${agent}` },
    });
    t.teardown(() => containerd.stop());
    const pulled = await containerd.tryPull(`${agent}/t/python:nydus`);
    t.equal(pulled.code, 0, pulled.stderr);
    const content = await containerd.content();
    const answer = await fetch(`http://${registry}/v2/t/python/manifests/nydus`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    });
    const { layers } = (await answer.json()) as { layers: { digest: string }[] };
    t.ok(layers.length > 1);
    for (const { digest } of layers.slice(0, -1))
      t.notOk(content.includes(digest), 'no data blob was downloaded');
    const made = await walked(containerd, `${agent}/t/python:nydus`, 'walk-nydus', false);
    t.ok(nydusMounts(join(dir, 'n')).length > 0, 'nydusd has it mounted');
    await containerd.removeImages();
    await containerd.pullFor('overlayfs', `${agent}/t/python:oci`);
    const { stdout, code, stderr } = await containerd.ctr([
      ...['run', '--snapshotter', 'overlayfs', '--rm', '--net-host', `${agent}/t/python:oci`, 'walk-source'],
      ...['python3', '-B', '-c', treeWalk(false)],
    ]);
    t.equal(code, 0, stderr);
    const source = stdout.split('\n');
    t.ok(source.length > 5_000, `${source.length} paths`);
    t.strictSame(made, source);
  },
);
