import { readFileSync } from 'node:fs';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { UpstreamClientOptions } from './queries.ts';

/** Other names of Docker Hub that are no registries themselves. */
const DOCKER_HUB_ALIASES = new Set(['docker.io', 'index.docker.io', 'hub.docker.com']);

/** The address that an upstream's `url` means. */
export function baseOf(url: string): URL {
  const base = new URL(url);
  if (DOCKER_HUB_ALIASES.has(base.host)) base.host = 'registry-1.docker.io';
  return base;
}

/** Certificates of an upstream's `ca`. @throws {CodedError} `CONFIG_INVALID` */
export function readCa(file: string, upstream: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `upstreams: ca of ${upstream}: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}

/** Options without the keys that are set to undefined, so that they do not hide a default. */
export function defined(options: UpstreamClientOptions): UpstreamClientOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** A refused or missing HEAD may still be an allowed GET, unless the credentials themselves were refused. */
export function helpsToGet(error: unknown): boolean {
  if (isCoded(error, 'BLOB_UNKNOWN')) return true;
  if (isCoded(error, 'UPSTREAM_DENIED'))
    return error.detail['status'] !== 401 && error.detail['scope'] === undefined;
  // Storage behind a redirect may only have signed for GET; 501 is a HEAD that was never built.
  return (
    isCoded(error, 'BACKEND_DOWN') && [400, 401, 403, 404, 405, 501].includes(Number(error.detail['status']))
  );
}
