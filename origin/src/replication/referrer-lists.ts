import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { parseObject } from '@sepia/base/json/lossless-json';
import type { Logger } from '@sepia/base/log';
import { parseServedManifest } from '@sepia/oci/manifest';
import { type ReferrerEntry, referrersOf, referrersTag } from '@sepia/upstream/referrers/referrer-list';
import { listReferrer, listReferrers, unlistReferrer } from '@sepia/upstream/referrers/referrers-by-tag';
import type { TargetClient } from '@sepia/upstream/target-client';
import { REFERRERS_API_MS } from '../deadlines/upstreams.ts';
import type { StoredManifest } from '../manifests/manifest-cache.ts';
import { passes } from './core/replication.ts';

interface ReferrerListsDeps {
  readonly client: Pick<
    TargetClient,
    'listsReferrers' | 'readManifest' | 'headManifest' | 'putManifest' | 'host'
  >;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Signatures and the like at a registry that does not list them: clients find them by a list under a tag, which whoever pushes
 * one keeps (distribution-spec, "Referrers Tag Schema"). Lists of this process are written one after the other.
 */
export class ReferrerLists {
  readonly #deps: ReferrerListsDeps;
  readonly #turn = new KeyedLocks<string>();
  /** What the registry was found to do, for a while. */
  #known: { readonly lists: boolean; readonly untilMs: number } | undefined;

  constructor(deps: ReferrerListsDeps) {
    this.#deps = deps;
  }

  /** As {@link added}, of one that was there before. */
  async there(repository: string, read: () => Promise<StoredManifest>, signal: AbortSignal): Promise<void> {
    if (this.#isKnownTo(true)) return;
    let manifest: StoredManifest;
    try {
      manifest = await read();
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      // It is at the target, whatever became of it here.
      if (!isCoded(error) || passes(error.code)) throw error;
      return;
    }
    await this.added(repository, manifest, undefined, signal);
  }

  /**
   * A manifest was put: it stands in the list of its subject, if it names one, when this resolves. `said`: what the registry
   * answered that it lists it under. @throws what passes by itself; a refusal is logged
   */
  async added(
    repository: string,
    manifest: StoredManifest,
    said: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { entry, subject } = referrerIn(manifest);
    if (subject === undefined) return;
    if (said === subject) return this.#note(true);
    await this.#edit(repository, subject, signal, async () => {
      await listReferrer(this.#deps.client, { repository, subject }, entry, signal);
    });
  }

  /**
   * A list that stands here under its tag goes into the one there, in which others may have put more; by `put` over what is no list.
   * @throws what the registry answers, and what `put` fails with
   */
  async merge(
    repository: string,
    subject: Digest,
    list: StoredManifest,
    put: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const { client } = this.#deps;
    await this.#turn.run(`${repository}@${subject}`, async () => {
      const entries = referrersOf(list.bytes) ?? [];
      if ((await client.readManifest(repository, referrersTag(subject), signal)) === undefined)
        return await put();
      try {
        await listReferrers(client, { repository, subject }, entries, signal);
      } catch (error) {
        if (lacksParts(error)) await this.#overGone(repository, subject, list, signal);
        else if (isCoded(error, 'METHOD_UNSUPPORTED')) await put();
        else throw error;
      }
    });
  }

  /** As {@link merge}, where the list there names what has gone there since: a registry may refuse a list with such an entry. */
  async #overGone(
    repository: string,
    subject: Digest,
    list: StoredManifest,
    signal: AbortSignal,
  ): Promise<void> {
    const { client } = this.#deps;
    const all = new Map((referrersOf(list.bytes) ?? []).map((one) => [one.digest, one]));
    const known = await client.readManifest(repository, referrersTag(subject), signal);
    for (const one of (known && referrersOf(known)) ?? [])
      if (!all.has(one.digest) && (await client.headManifest(repository, one.digest, signal)) !== undefined)
        all.set(one.digest, one);
    const text = JSON.stringify({ ...parseObject(list.bytes), manifests: [...all.values()] });
    const merged = { bytes: Buffer.from(text), mediaType: list.mediaType };
    await client.putManifest(repository, referrersTag(subject), merged, signal);
  }

  /** A manifest is about to go there: no list names it when this resolves. @throws as {@link added} */
  async leaves(repository: string, digest: Digest, signal: AbortSignal): Promise<void> {
    const { client } = this.#deps;
    if (this.#isKnownTo(true)) return;
    const bytes = await client.readManifest(repository, digest, signal);
    const subject = bytes && referrerIn({ digest, bytes, mediaType: '' }).subject;
    if (subject === undefined) return;
    await this.#edit(repository, subject, signal, async () => {
      await unlistReferrer(client, { repository, subject }, digest, signal);
    });
  }

  async #edit(
    repository: string,
    subject: Digest,
    signal: AbortSignal,
    work: () => Promise<void>,
  ): Promise<void> {
    const { client, log } = this.#deps;
    try {
      if (this.#isKnownTo(true)) return;
      if (!this.#isKnownTo(false)) this.#note(await client.listsReferrers(repository, subject, signal));
      if (this.#isKnownTo(false)) await this.#turn.run(`${repository}@${subject}`, work);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (!isCoded(error) || passes(error.code)) throw error;
      log.warn(
        { err: error, host: client.host, repository, subject },
        'the list of referrers of an image is not kept at a registry that lists none itself',
      );
    }
  }

  #isKnownTo(lists: boolean): boolean {
    return this.#known?.lists === lists && this.#deps.nowMs() < this.#known.untilMs;
  }

  #note(lists: boolean): void {
    this.#known = { lists, untilMs: this.#deps.nowMs() + REFERRERS_API_MS };
  }
}

/** True where a registry says of a manifest that it lacks what this names, whatever it said when it was asked for that. */
export function lacksParts(error: unknown): boolean {
  return (
    isCoded(error) && /^(?:MANIFEST_|MANIFEST_BLOB_|BLOB_)UNKNOWN$/.test(String(error.detail['upstreamCode']))
  );
}

/** Whether a manifest is a referrer. */
export function namesSubject(manifest: StoredManifest): boolean {
  return referrerIn(manifest).subject !== undefined;
}

/** How a list names a manifest, and in whose; what cannot be read names no subject. */
function referrerIn({ digest, bytes, mediaType: type }: StoredManifest): {
  readonly entry: ReferrerEntry;
  readonly subject: Digest | undefined;
} {
  let parsed: ReturnType<typeof parseServedManifest> | undefined;
  try {
    parsed = parseServedManifest(bytes, type);
  } catch (error) {
    throwIfBug(error);
  }
  const { mediaType = type, artifactType, annotations, subject } = parsed ?? {};
  const entry = {
    ...{ mediaType, digest, size: bytes.length },
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return { entry, subject };
}
