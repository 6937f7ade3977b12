import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { type Digest, Digester, digestOf } from '@sepia/base/digest';
import { request } from 'undici';
import { MIB } from './figures.ts';

/** A blob of made-up bytes that do not compress; any part of it can be made again. */
export class MadeBlob {
  readonly sizeBytes: number;
  /** The MiB that every piece is made from. */
  readonly base: Uint8Array;
  #digest: Digest | undefined;

  constructor(sizeBytes: number, base: Uint8Array = randomBytes(Math.min(MIB, sizeBytes))) {
    this.sizeBytes = sizeBytes;
    this.base = base;
  }

  /** Computed at first use. */
  get digest(): Digest {
    if (this.#digest === undefined) {
      const digester = new Digester();
      for (const part of this.parts()) digester.update(part);
      this.#digest = digester.digest();
    }
    return this.#digest;
  }

  /** Bytes of piece `index` of 1 MiB, a fresh copy; every piece differs by its number in front. */
  piece(
    index: number,
    offset = 0,
    length = Math.min(MIB, this.sizeBytes - index * MIB) - offset,
  ): Uint8Array {
    const bytes = Buffer.from(this.base.subarray(offset, offset + length));
    if (offset === 0 && length >= 4) bytes.writeUInt32BE(index);
    return bytes;
  }

  *parts(): Generator<Uint8Array> {
    for (let index = 0; index * MIB < this.sizeBytes; index++) yield this.piece(index);
  }
}

/** Pushes blobs and one manifest that names them to a registry, as tag `v1` of `repository`. */
export async function pushImage(
  registryUrl: string,
  repository: string,
  layers: readonly MadeBlob[],
): Promise<void> {
  const config = new MadeBlob(64);
  for (const blob of [config, ...layers]) await pushBlob(registryUrl, repository, blob);
  const described = (mediaType: string, blob: MadeBlob): object => ({
    mediaType,
    digest: blob.digest,
    size: blob.sizeBytes,
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: described('application/vnd.oci.image.config.v1+json', config),
      layers: layers.map((blob) => described('application/vnd.oci.image.layer.v1.tar', blob)),
    }),
  );
  const answer = await request(`${registryUrl}/v2/${repository}/manifests/v1`, {
    method: 'PUT',
    headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    body: manifest,
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 201)
    throw new Error(`manifest ${digestOf(manifest)}: ${answer.statusCode} ${text}`);
}

async function pushBlob(registryUrl: string, repository: string, blob: MadeBlob): Promise<void> {
  const started = await request(`${registryUrl}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  await started.body.dump();
  const place = new URL(String(started.headers['location']), registryUrl);
  place.searchParams.set('digest', blob.digest);
  const answer = await request(place, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.sizeBytes) },
    body: Readable.from(blob.parts()),
    headersTimeout: 300_000,
    bodyTimeout: 300_000,
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 201) throw new Error(`blob ${blob.digest}: ${answer.statusCode} ${text}`);
}
