import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { type Digest, digestOf, parseDigest } from '@sepia/shared/digest';
import { request } from 'undici';
import { MIB } from './figures.ts';

/** A blob of made-up bytes that do not compress; any part of it can be made again. */
export class MadeBlob {
  readonly sizeBytes: number;
  readonly digest: Digest;
  readonly #base: Uint8Array;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#base = randomBytes(Math.min(MIB, sizeBytes));
    const hash = createHash('sha256');
    for (const part of this.parts()) hash.update(part);
    this.digest = parseDigest(`sha256:${hash.digest('hex')}`);
  }

  /** Piece `index` of 1 MiB, a fresh copy; every piece differs by its number in front. */
  piece(index: number): Uint8Array {
    const length = Math.min(MIB, this.sizeBytes - index * MIB);
    const piece = Buffer.from(this.#base.subarray(0, length));
    if (length >= 4) piece.writeUInt32BE(index);
    return piece;
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
