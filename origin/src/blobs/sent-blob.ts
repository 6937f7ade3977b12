import { CodedError } from '@sepia/base/errors';
import { H_BROUGHT, H_CLASS, H_LINKS, H_MEDIA_TYPE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { ToldClocks } from '@sepia/records/core/set-protocol';
import type { Link } from '@sepia/records/store/record-store';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobAttrs } from '@sepia/store/sidecar';
import { type Members, PATIENT_MISSES } from '../cluster/members.ts';
import { COPY_ANSWER_MS, COPY_STALL_MS } from '../deadlines/members.ts';
import type { CountedAnswer } from '../records/ask-counted.ts';
import type { RidingWrite } from '../records/riding-write.ts';
import { broughtText } from './core/brought-by.ts';
import type { Hint } from './hints.ts';

/** A blob up to this is sent in one piece, a larger one in pieces of it. */
export const CHUNK_BYTES = 256 * 1024;

/** How often it is looked, in the time that a member may take no byte, whether it took one. */
const LOOKS = 10;

/** Of a header with links; all headers of a call together may have 32 KiB. */
const MAX_LINKS_CHARS = 8 * 1024;

export type CopyName = Pick<Hint, 'digest' | 'upstream' | 'repository'>;

/** A copy, and who gets it, asked by which membership. */
export interface CopyTarget {
  readonly name: CopyName;
  readonly id: string;
  readonly isStandIn: boolean;
  readonly epoch: number;
}

/** What is sent as a copy. */
interface CopyBody {
  /** As the store has them. */
  readonly attrs: BlobAttrs;
  readonly body: Uint8Array | AsyncGenerator<Uint8Array>;
  readonly sizeBytes: number;
}

/** What copies are made of where it is at hand. */
export interface SentCopy {
  /** A small blob that was just stored: its copies need no look at the disk. */
  readonly small?: CopyBody | undefined;
  /** Links that owners get with their copies. */
  readonly links?: RidingWrite<Link> | undefined;
}

/** What an owner answered to links that it got with a copy; undefined if it did not take them. */
export type LinksTaken = CountedAnswer<ToldClocks> | undefined;

/** What was stored, where it is in memory and small enough to be sent in one piece. */
export function smallBlob(attrs: BlobAttrs, bytes: Uint8Array | undefined): SentCopy['small'] {
  if (bytes === undefined || bytes.length > CHUNK_BYTES) return undefined;
  return { attrs, body: bytes, sizeBytes: bytes.length };
}

/** Sends a copy; it is durable there when this resolves. @throws `PEER_HTTP`, what the member says */
export async function sendCopy(
  members: Pick<Members, 'attended' | 'json' | 'counted'>,
  { name, id, isStandIn, epoch }: CopyTarget,
  { attrs, body, sizeBytes }: CopyBody,
  signal: AbortSignal,
  links?: RidingWrite<Link>,
): Promise<LinksTaken> {
  const text = links && linksText(links);
  const headers = {
    [H_CLASS]: attrs.class,
    [H_BROUGHT]: broughtText(attrs.provenance),
    'content-length': String(sizeBytes),
    ...(attrs.mediaType === undefined ? {} : { [H_MEDIA_TYPE]: attrs.mediaType }),
    ...(text === undefined ? {} : { [H_LINKS]: text }),
  };
  const call = {
    ...to(ORIGIN_BLOBS.blobPut, { ...name, copy: true, hint: isStandIn }),
    headers,
    body,
    headersTimeoutMs: COPY_ANSWER_MS,
    epoch,
  };
  const put = async (alive: AbortSignal): Promise<LinksTaken> => {
    if (text === undefined) {
      await members.json(id, { ...call, signal: alive });
      return undefined;
    }
    const { sender, answer } = await members.counted<{ links?: ToldClocks } | undefined>(id, {
      ...call,
      signal: alive,
    });
    return answer?.links && { sender, answer: answer.links };
  };
  return await members.attended(id, put, signal, PATIENT_MISSES);
}

/** Undefined for what no header takes, or is long. */
function linksText({ atMs, changes }: RidingWrite<Link>): string | undefined {
  const text = JSON.stringify({
    atMs,
    links: changes.map(({ key: [digest], value }) => ({ digest, ...value })),
  });
  return text.length <= MAX_LINKS_CHARS && /^[\x20-\x7e]*$/.test(text) ? text : undefined;
}

/** A small blob in one piece: no stream has to be set up for it at either end. */
export async function wholeOf(handle: BlobHandle): Promise<Uint8Array> {
  return handle.sizeBytes === 0
    ? new Uint8Array(0)
    : await handle.read(0, Buffer.allocUnsafe(handle.sizeBytes));
}

/**
 * A blob in chunks; `stall` is aborted once `id` takes none of them for long. It cannot take any before a socket to it is free:
 * a copy behind many others is not late by that.
 */
export function watched(
  handle: Pick<BlobHandle, 'read' | 'sizeBytes'>,
  id: string,
  stall: AbortController,
  stallMs = COPY_STALL_MS,
): { readonly chunks: AsyncGenerator<Uint8Array>; end(): void } {
  let movedAtMs = Number.POSITIVE_INFINITY;
  const look = (): void => {
    if (performance.now() - movedAtMs > stallMs)
      stall.abort(new CodedError('TIMEOUT', { message: `${id} takes no bytes` }));
  };
  const watch = setInterval(look, Math.ceil(stallMs / LOOKS));
  // The client pulls a chunk only after the socket took the one before (each is larger than its buffer), so two
  // buffers in turn are enough; fresh ones would outlive many collections.
  const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
  async function* chunks(): AsyncGenerator<Uint8Array> {
    movedAtMs = performance.now();
    for (let at = 0, turn = 0; at < handle.sizeBytes; at += CHUNK_BYTES, turn = 1 - turn) {
      yield await handle.read(at, buffers[turn]!);
      movedAtMs = performance.now();
    }
    // From here the receiver syncs: its answer has a deadline of its own.
    movedAtMs = Number.POSITIVE_INFINITY;
  }
  return { chunks: chunks(), end: () => clearInterval(watch) };
}
