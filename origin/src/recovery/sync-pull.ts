import { inTurns } from '@sepia/base/async/in-turns';
import { isCoded } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Members } from '../cluster/members.ts';
import { PAGE_REST_MS, SYNC_PAGE_MS } from '../deadlines/members.ts';
import type { FloorTakeover, TheirFloors } from '../floors/floor-takeover.ts';
import { SYNC_SPACES, type SyncSpace } from '../records/core/record-shard.ts';
import type { AloneEntries, SetSpace } from './alone-entries.ts';
import { comparable, type RecordDigests } from './record-digests.ts';
import type { RecordPages, SyncPage, SyncRecord } from './record-pages.ts';

/** Digests in one request for copies. */
const ASKED_AT_ONCE = 1_000;
/** Records that are taken over at once. */
const TAKEN_AT_ONCE = 32;

/** Why records are taken over. `witness`: the other counts, so what it lacks is gone, and not lost with its disk. */
type How = 'handover' | 'witness' | 'repair';

/** What a comparison found. `unsettled`: registers that only a round can bring in line. */
export interface Pulled {
  readonly records: number;
  readonly blobs: number;
  readonly unsettled: readonly string[];
}

/** What taking a record over needs, and what it adds to. */
interface Taking {
  readonly how: How;
  /** The other's agreed floor. */
  readonly theirsMs: number;
  readonly found: { records: number; blobs: number; readonly unsettled: string[] };
  readonly missing: string[];
}

interface SyncPullDeps {
  readonly members: Members;
  readonly digests: RecordDigests;
  readonly pages: RecordPages;
  readonly alone: AloneEntries;
  readonly floors: Pick<FloorTakeover, 'listOf' | 'take'>;
  readonly blobs: BlobIndex;
  readonly store: BlobStore;
  readonly log: Logger;
}

/** Takes over what another owner has and this origin lacks: all at a handover, later what differs. */
export class SyncPull {
  readonly #deps: SyncPullDeps;

  constructor(deps: SyncPullDeps) {
    this.#deps = deps;
  }

  /** Buckets in which the two differ. @throws `PEER_HTTP`, `RECORDS_PENDING` */
  async differing(id: string, signal: AbortSignal): Promise<Set<string>> {
    const { members, digests } = this.#deps;
    const theirs = await members.json<Record<string, string>>(id, {
      ...to(ORIGIN_SYNC.digests, { with: members.selfId }),
      headersTimeoutMs: SYNC_PAGE_MS,
      signal,
    });
    await digests.scan();
    const own = digests.with(id);
    return new Set(
      [...Object.keys(theirs), ...Object.keys(own)].filter((name) => own[name] !== theirs[name]),
    );
  }

  /** Pulls what `id` has in `buckets`. */
  async pull(id: string, how: How, buckets: ReadonlySet<string>, signal: AbortSignal): Promise<Pulled> {
    const found = { records: 0, blobs: 0, unsettled: [] as string[] };
    // It may have been asked before, and have got something since.
    if (how !== 'repair') await this.#deps.alone.forget(id);
    if (buckets.size === 0) return found;
    // Before the entries, which are at least as new then.
    const theirs = await this.#deps.floors.listOf(id, asked(how), buckets, signal);
    const missing: string[] = [];
    for (const space of SYNC_SPACES) {
      let after: string | undefined;
      do {
        const page = await this.#page(id, { space, how, after, buckets: [...buckets] }, theirs, signal);
        // Several at once share a commit.
        for await (const some of inTurns(page.entries, TAKEN_AT_ONCE))
          await Promise.all(
            some.map(
              async (entry) =>
                await this.#take(id, space, entry, {
                  how,
                  theirsMs: theirs.agreedMs(entry.key),
                  found,
                  missing,
                }),
            ),
          );
        if (how === 'witness' && space !== 'r1' && space !== 'b1')
          await this.#noteAlone(id, space, buckets, after, page);
        await this.#ask(id, missing, signal);
        after = page.next;
        if (how === 'repair' && after !== undefined) await delay(PAGE_REST_MS, signal);
      } while (after !== undefined);
    }
    await this.#deps.floors.take(id, asked(how), theirs, signal);
    return found;
  }

  /**
   * Takes away own entries that no other owner has: a disk that was set back must not bring back what was deleted.
   * Before the last of their owners counts as done. `witnesses`: others that counted all the while they were asked.
   */
  async dropAlone(witnesses: readonly string[]): Promise<void> {
    const { alone, pages } = this.#deps;
    for await (const entries of alone.found(witnesses))
      await Promise.all(entries.map(async ({ space, key }) => await pages.drop(space, key)));
  }

  /** Forgets which entries only this origin has: a handover begins or ends, and entries written from now on are new. */
  async forgetAlone(): Promise<void> {
    await this.#deps.alone.forget();
  }

  async #page(
    id: string,
    what: { readonly space: SyncSpace; readonly how: How; after: string | undefined; buckets: string[] },
    theirs: TheirFloors,
    signal: AbortSignal,
  ): Promise<SyncPage> {
    const json = {
      ...what,
      with: this.#deps.members.selfId,
      how: asked(what.how),
    };
    const call = { ...to(ORIGIN_SYNC.page), json, headersTimeoutMs: SYNC_PAGE_MS, signal };
    const told = await this.#deps.members.counted<SyncPage>(id, call);
    theirs.requireSame(id, told.sender);
    return told.answer;
  }

  async #take(
    id: string,
    space: SyncSpace,
    record: SyncRecord,
    { how, theirsMs, found, missing }: Taking,
  ): Promise<void> {
    const { pages, blobs, store, log } = this.#deps;
    if ((await pages.own(space, record.key)) === comparable(space, record.stored)) return;
    try {
      if (space === 'b1') {
        if (!(await blobs.take(store, record.key, id))) return;
        missing.push(record.key);
        found.blobs += 1;
        return;
      }
      if (space !== 'r1') {
        if (await pages.takeEntry(space, record, theirsMs)) found.records += 1;
        return;
      }
      found.records += 1;
      if (!(await pages.takeRegister(record, asked(how)))) found.unsettled.push(record.key);
    } catch (error) {
      // A record of the other that does not read is its matter; it must not stop the rest.
      if (!isCoded(error, 'DISK_CORRUPT') && !isCoded(error, 'DISK_FORMAT')) throw error;
      log.warn({ err: error, id, space, key: record.key }, 'a record of another origin was not taken over');
    }
  }

  async #noteAlone(
    id: string,
    space: SetSpace,
    buckets: ReadonlySet<string>,
    after: string | undefined,
    page: SyncPage,
  ): Promise<void> {
    const theirs = new Set(page.entries.map(({ key }) => key));
    const own = await this.#deps.pages.page(space, buckets, { after, upTo: page.next });
    for (let part = own; ; ) {
      const alone = part.entries.filter(({ key }) => !theirs.has(key));
      await this.#deps.alone.note(
        id,
        space,
        alone.map(({ key }) => key),
      );
      if (part.next === undefined) return;
      part = await this.#deps.pages.page(space, buckets, { after: part.next, upTo: page.next });
    }
  }

  /** Asks all owners again for the wanted blobs, and gives up those that none of them has any more. */
  async askAgain(signal: AbortSignal): Promise<void> {
    const { members, blobs, store } = this.#deps;
    let after: string | undefined;
    for (;;) {
      const listed = await blobs.listWanted(after, ASKED_AT_ONCE);
      if (listed.length === 0) return;
      after = listed.at(-1);
      const wanted: string[] = [];
      for (const digest of listed) if (!(await blobs.noteHere(store, digest))) wanted.push(digest);
      const owners = new Map(
        wanted.map((digest) => [digest, members.shard(digest).sets.flat().filter(isOther)]),
      );
      const lacking = new Map<string, Set<string>>();
      for (const id of members.ids.filter(isOther)) {
        const asked = wanted.filter((digest) => owners.get(digest)?.includes(id));
        if (asked.length === 0) continue;
        const told = await this.#owe(id, asked, signal).catch(ignoreFailure);
        lacking.set(id, new Set(told?.lacking));
      }
      for (const [digest, ids] of owners)
        if (ids.every((id) => lacking.get(id)?.has(digest))) await blobs.giveUp(digest);
    }
    function isOther(id: string): boolean {
      return id !== members.selfId;
    }
  }

  /** Has the other send blobs: it owes them from then on, durably. */
  async #ask(id: string, missing: string[], signal: AbortSignal): Promise<void> {
    while (missing.length > 0) {
      await this.#owe(id, missing.splice(0, ASKED_AT_ONCE), signal);
    }
  }

  async #owe(
    id: string,
    digests: readonly string[],
    signal: AbortSignal,
  ): Promise<{ readonly lacking: readonly string[] }> {
    const json = { to: this.#deps.members.selfId, digests };
    const call = { ...to(ORIGIN_SYNC.owe), json, headersTimeoutMs: SYNC_PAGE_MS, signal };
    return await this.#deps.members.json(id, call);
  }
}

function asked(how: How): 'handover' | 'repair' {
  return how === 'repair' ? 'repair' : 'handover';
}
