import { type Digest, digestOf } from '@sepia/base/digest';
import { request } from 'undici';
import { untilAnswered } from '../until.ts';

/** What a registry answered, read whole. */
export interface RegistryAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
  /** Code of the first OCI error, if the body is one. */
  readonly code: string | undefined;
  json<T>(): T;
}

/** One request to a registry endpoint; `url` with its path. */
export async function call(
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  url: string | URL,
  options: { readonly body?: Buffer; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<RegistryAnswer> {
  const { statusCode, headers, body } = await request(url, {
    method,
    body: options.body ?? null,
    headers: options.headers ?? {},
    headersTimeout: 60_000,
  });
  const bytes = Buffer.from(await body.arrayBuffer());
  const json = <T>(): T => JSON.parse(bytes.toString('utf8')) as T;
  let code: string | undefined;
  try {
    code = json<{ errors?: { code?: string }[] }>().errors?.[0]?.code;
  } catch {
    code = undefined;
  }
  return { status: statusCode, headers, bytes, code, json };
}

/** As {@link call}, of what may be asked twice: once more while a member that is busy answers 503. */
export async function callUntilAnswered(...args: Parameters<typeof call>): Promise<RegistryAnswer> {
  return await untilAnswered(async () => await call(...args), `${args[0]} ${args[1]}`);
}

/** Digest that a tag points at; undefined: there is none. */
export async function tagAt(url: string, repository: string, tag: string): Promise<string | undefined> {
  const { status, headers } = await callUntilAnswered('HEAD', `${url}/v2/${repository}/manifests/${tag}`);
  if (status !== 200 && status !== 404) throw new Error(`${repository}:${tag} at ${url}: ${status}`);
  return status === 200 ? String(headers['docker-content-digest']) : undefined;
}

/**
 * Deletes a tag, or a manifest by its digest. @throws unless the cluster says that it is gone: by 202, or by 404 to who
 * asks again after a 503, for the first time may have done it
 */
export async function deleteManifest(url: string, repository: string, reference: string): Promise<void> {
  let tries = 0;
  const { status } = await untilAnswered(async () => {
    tries += 1;
    return await call('DELETE', `${url}/v2/${repository}/manifests/${reference}`);
  }, `delete of ${repository} ${reference}`);
  if (status !== 202 && !(status === 404 && tries > 1))
    throw new Error(`delete of ${repository} ${reference}: ${status}`);
}

/** Pushes a blob in one request. */
export async function pushBlob(url: string, repository: string, bytes: Buffer): Promise<Digest> {
  const digest = digestOf(bytes);
  const { status } = await callUntilAnswered(
    'POST',
    `${url}/v2/${repository}/blobs/uploads/?digest=${digest}`,
    {
      body: bytes,
    },
  );
  if (status !== 201) throw new Error(`push of a blob: ${status}`);
  return digest;
}

/** Pushes a blob in two requests, as docker-registry wants it. */
export async function pushBlobInTwo(url: string, repository: string, bytes: Buffer): Promise<Digest> {
  const digest = digestOf(bytes);
  const begun = await call('POST', `${url}/v2/${repository}/blobs/uploads/`);
  const to = new URL(String(begun.headers['location']), url);
  to.searchParams.set('digest', digest);
  const done = await call('PUT', to, {
    body: bytes,
    headers: { 'content-type': 'application/octet-stream' },
  });
  if (done.status !== 201) throw new Error(`push of a blob: ${begun.status}, ${done.status}`);
  return digest;
}

/** Pushes a manifest made of `fields` by digest, or under `tag`, and returns its digest. */
export async function pushManifest(
  url: string,
  repository: string,
  fields: object,
  tag?: string,
): Promise<Digest> {
  const bytes = Buffer.from(JSON.stringify(fields));
  const { mediaType } = fields as { mediaType: string };
  const answer = await callUntilAnswered(
    'PUT',
    `${url}/v2/${repository}/manifests/${tag ?? digestOf(bytes)}`,
    {
      body: bytes,
      headers: { 'content-type': mediaType },
    },
  );
  if (answer.status !== 201) throw new Error(`push of a manifest: ${answer.status} ${answer.bytes}`);
  return digestOf(bytes);
}
