import { createCipheriv, createHash } from 'node:crypto';
import { request } from 'node:http';
import type { Blob } from './history.ts';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** An answer as it came; `complete`: all bytes that were announced. Status 0: none came. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly complete: boolean;
}

/** The bytes of a blob; made by AES in counter mode, so that they need not be kept. */
export function bytesOf({ seed, sizeBytes }: Blob): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed >>> 0, 0);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return cipher.update(Buffer.alloc(sizeBytes));
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** One request, without any code of the project: plain node:http, nothing retried, nothing followed. Never rejects. */
export async function ask(
  method: string,
  url: string,
  options: {
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: Uint8Array;
    readonly timeoutMs?: number;
  } = {},
): Promise<Answer> {
  const { headers = {}, body, timeoutMs = 15_000 } = options;
  return await new Promise((resolve) => {
    const parts: Buffer[] = [];
    let status = 0;
    let got: Answer['headers'] = {};
    const end = (complete: boolean): void => {
      clearTimeout(late);
      resolve({ status, headers: got, body: Buffer.concat(parts), complete });
    };
    const length = body === undefined ? (method === 'POST' ? 0 : undefined) : body.length;
    const sent = request(url, {
      method,
      agent: false,
      headers: { ...headers, ...(length === undefined ? {} : { 'content-length': length }) },
    });
    const late = setTimeout(() => sent.destroy(new Error('late')), timeoutMs);
    sent.on('response', (answer) => {
      status = answer.statusCode ?? 0;
      got = answer.headers;
      answer.on('data', (part: Buffer) => parts.push(part));
      answer.on('error', () => end(false));
      answer.on('end', () => end(answer.complete));
    });
    sent.on('error', () => end(false));
    sent.end(body);
  });
}

/** Begins a session, sends half of the blob, then the rest with its end; the last answer, or the first that is an error. */
export async function pushBlob(base: string, repository: string, bytes: Buffer): Promise<Answer> {
  const begun = await ask('POST', `${base}/v2/${repository}/blobs/uploads/`);
  const location = begun.headers['location'];
  if (begun.status !== 202 || typeof location !== 'string') return begun;
  const half = bytes.subarray(0, bytes.length >> 1);
  const patched = await ask('PATCH', new URL(location, base).href, {
    headers: { 'content-type': 'application/octet-stream' },
    body: half,
  });
  const next = patched.headers['location'];
  if (patched.status !== 202 || typeof next !== 'string') return patched;
  const end = new URL(next, base);
  end.searchParams.set('digest', digestOf(bytes));
  return await ask('PUT', end.href, {
    headers: { 'content-type': 'application/octet-stream' },
    body: bytes.subarray(half.length),
  });
}

export async function putManifest(
  base: string,
  repository: string,
  reference: string,
  manifest: Uint8Array,
): Promise<Answer> {
  const headers = { 'content-type': OCI_MANIFEST };
  return await ask('PUT', `${base}/v2/${repository}/manifests/${reference}`, { headers, body: manifest });
}

export async function deleteTag(base: string, repository: string, tag: string): Promise<Answer> {
  return await ask('DELETE', `${base}/v2/${repository}/manifests/${tag}`);
}

export async function getManifest(base: string, repository: string, reference: string): Promise<Answer> {
  return await ask('GET', `${base}/v2/${repository}/manifests/${reference}`, {
    headers: { accept: OCI_MANIFEST },
  });
}

export async function getBlob(
  base: string,
  repository: string,
  digest: string,
  range?: { readonly start: number; readonly end: number },
): Promise<Answer> {
  const headers: Record<string, string> =
    range === undefined ? {} : { range: `bytes=${range.start}-${range.end}` };
  return await ask('GET', `${base}/v2/${repository}/blobs/${digest}`, { headers, timeoutMs: 40_000 });
}

/** A manifest of these blobs; the first is its config. */
export function manifestOf(blobs: readonly Blob[]): Buffer {
  const described = blobs.map((blob) => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: digestOf(bytesOf(blob)),
    size: blob.sizeBytes,
  }));
  const config = { ...described[0]!, mediaType: 'application/vnd.oci.image.config.v1+json' };
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: described.slice(1) }),
  );
}
