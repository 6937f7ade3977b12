import { firstAnswer } from '@sepia/base/async/ask-many';
import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { MAX_TIMER_MS } from '@sepia/base/bounded-ms';
import { digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, noteBug, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { isDecisive, isDefinite } from '@sepia/cluster/core/answers';
import { COMPLAINT_MS } from '@sepia/cluster/deadlines';
import type { BlobHolders } from '@sepia/http/bodies/core/source-order';
import { MemoryBlob } from '@sepia/http/bodies/memory-blob';
import { answeredRange } from '@sepia/http/bodies/range-stream';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { type BlobSource, RemoteBlob } from '@sepia/http/bodies/remote-blob';
import { type InternalResponse, MAX_ANSWER_BYTES, readLimited } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { RangeWish } from '@sepia/oci/range';
import { headerOf, type OriginRequest, type Origins } from '../cluster/origins.ts';
import {
  BODY_MS,
  HOLDER_HEDGE_MS,
  JOIN_MS,
  LEADER_MS,
  POLL_SLACK_MS,
  PROGRESS_MS,
  RESUME_GRACE_MS,
} from '../deadlines.ts';
import { openBlob, READ_MISSES, whileAlive } from './blob-source.ts';
import type { SourcePlan } from './core/choose-source.ts';
import { findSource } from './whereabouts.ts';

const MAX_LEAVES_BYTES = 1024 * 1024;

interface OriginBlobDeps {
  readonly origins: Origins;
  readonly log: Logger;
  /** A body that makes no progress at any origin for this long is cut, in ms. */
  readonly stallMs: number;
  /** Called when a body goes on at another origin. */
  readonly onResume?: () => void;
}

/** A blob of the origins that is open for one body. */
export interface OpenedOriginBlob {
  readonly blob: ReadableBlob;
  close(): void;
}

/** Metainfo of a whole blob that was asked for before it was known who has it. */
export interface EarlyMetainfo {
  readonly originId: string;
  readonly told: Promise<Metainfo>;
  /** Aborted once it was dropped, or its reader is gone. */
  readonly over: AbortSignal;
  /** It is not needed, or was taken. Idempotent. */
  drop(): void;
}

/**
 * Asks for the metainfo of a whole blob beside the question where it is: at its first owner, who has it or is the one to fetch
 * it in nearly all cases. In vain for a small blob that is here, and where another origin is named. Drop it.
 */
export function askEarly(deps: OriginBlobDeps, name: BlobName, signal: AbortSignal): EarlyMetainfo {
  const { origins } = deps;
  const originId = origins.health.leader(origins.placement(name.digest));
  const source = originSource(deps, name, { want: 'all' }, false);
  const ask = async (running: AbortSignal): Promise<Metainfo> =>
    (await source.metainfo(originId, undefined, 0, running))!.metainfo;
  const over = new LinkedAbort(signal);
  const told = flightsOf(origins).early.run(JSON.stringify([originId, name]), ask, over.signal);
  told.catch((error: unknown) => void noteBug(error));
  const drop = (): void => over.abort(new CodedError('TIMEOUT', { message: 'nobody waits' }));
  return { originId, told, over: over.signal, drop };
}

/** Undefined where its own reader has left: others ask anew. */
async function toldEarly({ told, over }: EarlyMetainfo): Promise<Metainfo | undefined> {
  try {
    return await told;
  } catch (error) {
    throwIfBug(error);
    if (over.aborted) return undefined;
    throw error;
  }
}

/**
 * Opens a blob for one body: a small one is read whole and its digest checked, of others every piece is checked
 * against the metainfo of an origin. `wish`: what of it is read; `early`: asked for before, of the whole blob.
 * @throws {CodedError} what the origins said; `NO_PEERS` when none answers
 */
export async function openOriginBlob(
  deps: OriginBlobDeps,
  name: BlobName,
  plan: SourcePlan,
  wish: RangeWish,
  signal: AbortSignal,
  early?: EarlyMetainfo,
): Promise<OpenedOriginBlob> {
  if (plan.sizeBytes !== undefined && plan.sizeBytes <= SMALL_BLOB_BYTES)
    return { blob: await smallBlob(deps, name, plan, signal), close: () => undefined };
  const areWhole = plan.type === 'holders';
  const source = originSource(deps, name, wish, areWhole);
  const ids = deps.origins.health.order(plan.originIds);
  const begin = async (running: AbortSignal): Promise<Metainfo> => {
    const ask = async (id: string, abort: AbortSignal): Promise<Metainfo> => {
      const told = id === early?.originId ? await toldEarly(early) : undefined;
      return told ?? (await source.metainfo(id, undefined, 0, AbortSignal.any([running, abort])))!.metainfo;
    };
    const hedgeAfterMs = areWhole ? HOLDER_HEDGE_MS : MAX_TIMER_MS;
    return await firstAnswer(ids, ask, { hedgeAfterMs, signal: running, isFinal: isDecisive });
  };
  const { beginnings } = flightsOf(deps.origins);
  // Who is not asked first now is not asked.
  if (early !== undefined && early.originId !== ids[0]) early.drop();
  const told = await beginnings.run(JSON.stringify([name, wish]), begin, signal);
  // What is open grows as its reader learns more: each has one of its own.
  const metainfo = told.state === 'final' ? told : Metainfo.decode(told.encode());
  const blob = new RemoteBlob(
    source,
    {
      progressMs: PROGRESS_MS,
      stallMs: deps.stallMs,
      onResume: (origin, piece) => {
        deps.log.info({ digest: name.digest, origin, piece }, 'a blob goes on at another origin');
        deps.onResume?.();
      },
    },
    { holders: { ids, areWhole }, metainfo },
  );
  return { blob, close: () => blob.close() };
}

/** Questions under way, by name and what of it: as many as ask for one blob at once are one question to the origins. */
interface Flights {
  readonly beginnings: SingleFlight<string, Metainfo>;
  readonly early: SingleFlight<string, Metainfo>;
  readonly finding: SingleFlight<string, BlobHolders>;
  readonly leaves: SingleFlight<string, Uint8Array>;
}

const flights = new WeakMap<Origins, Flights>();

function flightsOf(origins: Origins): Flights {
  const known = flights.get(origins) ?? {
    beginnings: new SingleFlight(),
    early: new SingleFlight(),
    finding: new SingleFlight({ joinMs: JOIN_MS }),
    leaves: new SingleFlight({ joinMs: JOIN_MS }),
  };
  flights.set(origins, known);
  return known;
}

/** How origins are asked for pieces of one blob, which those that are asked first have whole or fetch. */
function originSource(
  { origins, log }: OriginBlobDeps,
  name: BlobName,
  wish: RangeWish,
  areWhole: boolean,
): BlobSource {
  const first =
    wish.want === 'all' || wish.start === undefined ? undefined : Math.floor(wish.start / PIECE_BYTES);
  return {
    find: async (signal) => {
      const find = async (running: AbortSignal): Promise<BlobHolders> => {
        const plan = await findSource(origins, name, running, RESUME_GRACE_MS);
        return { ids: origins.health.order(plan.originIds), areWhole: plan.type === 'holders' };
      };
      return await flightsOf(origins).finding.run(JSON.stringify(name), find, signal);
    },
    metainfo: async (id, known, waitMs, signal) => {
      const news = known === undefined ? {} : { wait: waitMs, from: known.metainfo.knownPrefix };
      const asked = { ...name, fetch: true, want: wish.want, piece: first, ...news };
      const call = {
        ...to(ORIGIN_BLOBS.metainfo, asked),
        headers: known === undefined ? {} : { 'if-none-match': known.etag },
        headersTimeoutMs: LEADER_MS + waitMs + POLL_SLACK_MS,
        lasts: areWhole && known === undefined ? undefined : 'wait',
      } as const;
      const run = (alive: AbortSignal): Promise<InternalResponse> =>
        origins.call(id, { ...call, signal: alive });
      const answer = await whileAlive(origins, id, signal, run, READ_MISSES);
      if (answer.status === 304) {
        await answer.body.dump();
        return undefined;
      }
      const metainfo = metainfoOf(name, id, await readLimited(answer.body, MAX_ANSWER_BYTES, id));
      return { metainfo, etag: headerOf(answer, 'etag') ?? metainfo.etag };
    },
    leaves: async (id, first, count, signal) =>
      await leavesAt(origins, id, to(ORIGIN_BLOBS.leaves, { ...name, from: first, count }), signal),
    range: async (id, start, end, signal) => {
      const call = {
        ...to(ORIGIN_BLOBS.blob, name),
        headers: { range: `bytes=${start}-${end}` },
        lasts: 'body',
        headersTimeoutMs: LEADER_MS,
        bodyTimeoutMs: BODY_MS,
      } as const;
      const run = (alive: AbortSignal): Promise<InternalResponse> =>
        origins.call(id, { ...call, signal: alive });
      const answer = await whileAlive(origins, id, signal, run, READ_MISSES);
      return answeredRange(answer, { start, end }, id);
    },
    // It was said when the blob was opened.
    wantAll: () => Promise.resolve(),
    isDefinite,
    wrong: (origin, piece) => {
      log.warn({ digest: name.digest, origin, piece }, 'an origin sent wrong bytes of a blob');
      const call = to(ORIGIN_BLOBS.complaints, { digest: name.digest, piece });
      origins
        .quick(origin, COMPLAINT_MS, call)
        .catch((error: unknown) => logFailure(log, error, 'a complaint was not sent', { origin }, 'debug'));
    },
  };
}

/**
 * Leaf hashes that one origin tells. Readers who ask for the same join: who leaves ends it for nobody else, and one that
 * hangs takes in nobody after {@link JOIN_MS}.
 */
async function leavesAt(
  origins: Origins,
  id: string,
  asked: Pick<OriginRequest, 'method' | 'path'>,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { leaves } = flightsOf(origins);
  const key = `${id} ${asked.path}`;
  const ask = async (running: AbortSignal): Promise<Uint8Array> => {
    const abort = new LinkedAbort(running);
    const late = setTimeout(() => abort.abort(new CodedError('TIMEOUT')), LEADER_MS + POLL_SLACK_MS);
    try {
      const run = async (alive: AbortSignal): Promise<Uint8Array> => {
        const call = { ...asked, headersTimeoutMs: LEADER_MS, lasts: 'wait', signal: alive } as const;
        const answer = await origins.call(id, call);
        return await readLimited(answer.body, MAX_LEAVES_BYTES, id);
      };
      return await whileAlive(origins, id, abort.signal, run, READ_MISSES);
    } finally {
      clearTimeout(late);
      abort.unlink();
    }
  };
  return await leaves.run(key, ask, signal);
}

/** Final metainfo that somebody reads by. */
const finals = new Map<string, WeakRef<Metainfo>>();
const forgotten = new FinalizationRegistry<string>((key) => {
  if (finals.get(key)?.deref() === undefined) finals.delete(key);
});

/** Readers of one blob hold one copy of its final metainfo: 320 KiB of a 10 GiB blob each would be 160 MiB for 500. */
function shareFinal(metainfo: Metainfo): Metainfo {
  if (metainfo.state !== 'final') return metainfo;
  const key = metainfo.digest;
  const shared = finals.get(key)?.deref();
  // One origin's lie is no other's.
  if (shared !== undefined) return Buffer.from(shared.layer()).equals(metainfo.layer()) ? shared : metainfo;
  finals.set(key, new WeakRef(metainfo));
  forgotten.register(metainfo, key);
  return metainfo;
}

/** @throws `PEER_HTTP` for metainfo that does not read, or is of another blob: another origin may do better */
function metainfoOf({ digest }: BlobName, origin: string, bytes: Buffer): Metainfo {
  let metainfo: Metainfo | undefined;
  try {
    metainfo = Metainfo.decode(bytes);
  } catch (error) {
    if (!isCoded(error, 'METAINFO_INVALID')) throw error;
  }
  if (metainfo?.digest === digest) return shareFinal(metainfo);
  const detail = { digest, origin, status: 200 };
  throw new CodedError('PEER_HTTP', { message: `origin ${origin} sent metainfo of something else`, detail });
}

/** A small blob is one answer, in memory, its digest checked. */
async function smallBlob(
  { origins, log }: OriginBlobDeps,
  name: BlobName,
  plan: SourcePlan,
  signal: AbortSignal,
): Promise<ReadableBlob> {
  const { digest } = name;
  const ask = async (originId: string, abort: AbortSignal): Promise<Buffer> => {
    const one = { ...plan, originIds: [originId] };
    const opened = await openBlob(origins, one, name, 'GET', {}, AbortSignal.any([signal, abort]));
    const bytes = await readLimited(opened.answer.body, SMALL_BLOB_BYTES, originId);
    if (digestOf(bytes, digestAlgorithm(digest)) === digest) return bytes;
    log.warn({ digest, origin: originId }, 'an origin sent wrong bytes of a blob');
    throw new CodedError('PIECE_BAD', { detail: { digest, origin: originId } });
  };
  const isFinal = (error: unknown): boolean => isDecisive(error) && !isCoded(error, 'PIECE_BAD');
  const hedgeAfterMs = plan.type === 'leader' ? MAX_TIMER_MS : HOLDER_HEDGE_MS;
  try {
    const ids = origins.health.order(plan.originIds);
    const bytes = await firstAnswer(ids, ask, { hedgeAfterMs, signal, isFinal });
    return new MemoryBlob(digest, bytes);
  } catch (cause) {
    // Nobody has a right copy now.
    throw isCoded(cause, 'PIECE_BAD') ? new CodedError('NO_PEERS', { detail: { digest }, cause }) : cause;
  }
}
