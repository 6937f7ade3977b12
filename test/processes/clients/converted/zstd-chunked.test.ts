import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { freePort, must, run, startRegistry, whyNoClients } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import { LayoutWriter } from '../../../../cli/src/image/layout-writer.ts';
import { noise } from '../../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../../shared/lazy/test/support/tar-writer.ts';
import { Relay } from '../support/relay.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const SHARED_FILES = 20;
const FILE_BYTES = 200_000;

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root for overlay mounts';
  if (!existsSync('/usr/bin/podman')) return 'needs podman (apt-get install podman)';
  return whyNoClients();
}

/** A layout with an image of one layer: files that both images have, and one of its own. */
async function layout(folder: string, own: string): Promise<Buffer> {
  const shared = Array.from({ length: SHARED_FILES }, (_, index) => ({
    name: `data/f${index}`,
    payload: noise(index + 1, FILE_BYTES),
    mode: 0o644,
  }));
  const tar = writeTar([
    { name: 'data/', typeFlag: '5', mode: 0o755 },
    ...shared,
    { name: 'data/own', payload: Buffer.from(own.repeat(1000)), mode: 0o644 },
  ]);
  const layer = gzipSync(tar);
  const rootfs = { type: 'layers', diff_ids: [digestOf(tar)] };
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs }));
  const writer = new LayoutWriter(folder);
  for (const bytes of [layer, config]) {
    const blob = await writer.openBlob(digestOf(bytes));
    await blob.write(bytes);
    await blob.keep();
    await blob.close();
  }
  const part = (mediaType: string, bytes: Buffer) => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: part('application/vnd.oci.image.config.v1+json', config),
      layers: [part('application/vnd.oci.image.layer.v1.tar+gzip', layer)],
    }),
  );
  const top = { bytes: manifest, digest: digestOf(manifest), mediaType: MANIFEST };
  writer.writeManifest(top);
  writer.writeIndex([{ top, reference: 'latest' }]);
  return layer;
}

/** podman with a store of its own that takes parts of layers. */
function podmanOf(t: Test): (...args: string[]) => Promise<string> {
  // podman refuses a run folder whose path is longer than 50 characters.
  const folder = mkdtempSync('/tmp/sepia-pod-');
  const config = join(folder, 'storage.conf');
  writeFileSync(
    config,
    `[storage]
driver = "overlay"
graphroot = "${folder}/s"
runroot = "${folder}/r"
[storage.options]
pull_options = {enable_partial_images = "true"}
`,
  );
  t.teardown(async () => {
    // The driver binds its folder onto itself.
    await run('umount', [`${folder}/s/overlay`]);
    rmSync(folder, { recursive: true, force: true });
  });
  return async (...args) =>
    (await must('env', [`CONTAINERS_STORAGE_CONF=${config}`, 'podman', ...args])).stdout;
}

t.test('podman fetches the files that it lacks', { skip: whyNot() ?? false, timeout: 300_000 }, async (t) => {
  const port = await freePort();
  await startRegistry(t, port);
  const dir = t.testdir();
  const sepia = join(import.meta.dirname, '../../../../sepia');
  const layers: Buffer[] = [];
  for (const own of ['first', 'second']) {
    layers.push(await layout(join(dir, own), own));
    const to = ['--to', 'zstdchunked', '--work-dir', join(dir, 'work')];
    await must(sepia, ['convert', join(dir, own), `127.0.0.1:${port}/app:${own}`, ...to]);
  }
  const relay = await Relay.to(t, port);
  const podman = podmanOf(t);
  const pulled: number[] = [];
  for (const own of ['first', 'second']) {
    relay.received = 0;
    await podman('pull', '--tls-verify=false', `127.0.0.1:${relay.port}/app:${own}`);
    pulled.push(relay.received);
  }
  t.ok(pulled[0]! > SHARED_FILES * FILE_BYTES, `${pulled[0]} bytes for the first image`);
  t.ok(pulled[1]! < layers[1]!.length / 10, `${pulled[1]} bytes for the second, of ${layers[1]!.length}`);
  const image = `127.0.0.1:${relay.port}/app:second`;
  const root = (await podman('image', 'mount', image)).trim();
  const facts = await must('sha256sum', [`${root}/data/f7`, `${root}/data/own`]);
  t.match(facts.stdout, digestOf(noise(8, FILE_BYTES)).slice('sha256:'.length));
  t.match(facts.stdout, digestOf(Buffer.from('second'.repeat(1000))).slice('sha256:'.length));
  await podman('image', 'unmount', image);
});
