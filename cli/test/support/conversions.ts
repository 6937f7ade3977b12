import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import type { ConvertResult } from '@sepia/lazy/convert/convert-image';
import { LAYER_DEFAULTS, type LayerOptions } from '@sepia/lazy/convert/layer-job';
import type { Test } from 'tap';
import { sourcePlace, targetPlace } from '../../src/convert/place.ts';
import { runConvert } from '../../src/convert/run-convert.ts';
import { FakeRegistry } from './fake-registry.ts';

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** A tar of files, as simple as it gets. */
export function tarOf(files: Record<string, string | Buffer>): Buffer {
  const parts = Object.entries(files).map(([name, content]) => {
    const payload = Buffer.from(content);
    const block = Buffer.alloc(512);
    block.write(name);
    block.write('0000644\0', 100);
    block.write(`${payload.length.toString(8).padStart(11, '0')}\0`, 124);
    block.write('0', 156);
    block.write('ustar\x0000', 257);
    block.fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return Buffer.concat([block, payload, Buffer.alloc((512 - (payload.length % 512)) % 512)]);
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

export async function registry(t: Test): Promise<{ fake: FakeRegistry; host: string }> {
  const fake = new FakeRegistry();
  const url = await fake.start();
  t.teardown(() => fake.stop());
  return { fake, host: new URL(url).host };
}

/** `more`: further fields of its config. */
export function addImage(
  fake: FakeRegistry,
  tag: string,
  tars: readonly Buffer[],
  more: object = {},
): string {
  const part = (bytes: Buffer, mediaType: string): object => ({
    mediaType,
    digest: fake.addBlob(bytes),
    size: bytes.length,
  });
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      ...more,
      rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
    }),
  );
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: part(config, 'application/vnd.oci.image.config.v1+json'),
      layers: tars.map((tar) => part(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip')),
    }),
  );
  fake.manifests.set(tag, { bytes, type: OCI_MANIFEST }).set(digestOf(bytes), { bytes, type: OCI_MANIFEST });
  return digestOf(bytes);
}

/** A conversion in this process, nothing shown. */
export async function convert(
  src: string,
  dst: string,
  workDir: string,
  options: Partial<LayerOptions> = {},
): Promise<ConvertResult> {
  const where = { defaultProxy: 'http://127.0.0.1:1' };
  return await runConvert({
    source: sourcePlace(src, where),
    target: targetPlace(dst, where),
    options: { ...LAYER_DEFAULTS, ...options },
    credentials: {},
    workDir,
    threads: 1,
    out: undefined,
    signal: new AbortController().signal,
  });
}
