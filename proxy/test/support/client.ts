import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { request } from 'undici';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  /** `code` of the OCI error body, if it is one. */
  readonly code: string | undefined;
}

interface AskOptions {
  readonly headers?: Record<string, string>;
  readonly body?: Buffer | string | Readable;
}

/** One request, answered in whole. */
export async function ask(url: string, method = 'GET', options: AskOptions = {}): Promise<Answer> {
  const answer = await request(url, {
    method: method as 'GET',
    headers: options.headers ?? {},
    ...(options.body === undefined ? {} : { body: options.body }),
    headersTimeout: 60_000,
  });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  // A blob of many MiB is read as a text only where a test asks for that.
  return {
    ...{ status: answer.statusCode, headers: answer.headers, bytes },
    get text(): string {
      return bytes.toString('utf8');
    },
    get code(): string | undefined {
      return codeOf(bytes);
    },
  };
}

function codeOf(bytes: Buffer): string | undefined {
  try {
    return (JSON.parse(bytes.toString('utf8')) as { errors?: { code?: string }[] }).errors?.[0]?.code;
  } catch {
    return undefined;
  }
}

export interface Content {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

export function randomContent(sizeBytes: number): Content {
  return contentOf(randomBytes(sizeBytes));
}

export function contentOf(bytes: Buffer): Content {
  return { bytes, digest: digestOf(bytes) };
}

/** A one-layer OCI manifest. */
export function manifestOf(config: Content, layers: readonly Content[], more: object = {}): Content {
  const entry = (content: Content, mediaType: string): object => ({
    mediaType,
    digest: content.digest,
    size: content.bytes.length,
  });
  return contentOf(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        config: entry(config, 'application/vnd.oci.image.config.v1+json'),
        layers: layers.map((layer) => entry(layer, 'application/vnd.oci.image.layer.v1.tar+gzip')),
        ...more,
      }),
    ),
  );
}

/** Pushes a blob as containerd does. Returns the PUT's answer. */
export async function pushBlob(url: string, name: string, content: Content): Promise<Answer> {
  const begun = await ask(`${url}/v2/${name}/blobs/uploads/`, 'POST');
  const location = new URL(String(begun.headers.location), url);
  location.searchParams.set('digest', content.digest);
  return await ask(location.href, 'PUT', { body: content.bytes });
}
