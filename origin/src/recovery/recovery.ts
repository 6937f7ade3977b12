import { randomBytes } from 'node:crypto';
import { askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Hints } from '../blobs/hints.ts';
import type { Replicator } from '../blobs/replicator.ts';
import type { Members } from '../cluster/members.ts';
import { CLOSING_MS } from '../deadlines/members.ts';
import { FloorTakeover } from '../floors/floor-takeover.ts';
import type { Tags } from '../records/tags.ts';
import { AloneEntries } from './alone-entries.ts';
import { AntiEntropy } from './anti-entropy.ts';
import { CopiesOwed } from './copies-owed.ts';
import { LookThrough } from './look-through.ts';
import type { OpenedRecords } from './open-records.ts';
import { RecordPages } from './record-pages.ts';
import { type RecoveryRing, StartUp } from './start-up.ts';
import { SyncPull } from './sync-pull.ts';

export interface RecoveryDeps extends OpenedRecords {
  readonly cluster: Cluster;
  readonly members: Members;
  readonly index: BlobIndex;
  readonly store: BlobStore;
  readonly hints: Hints;
  readonly replicator: Pick<Replicator, 'retrySoon'>;
  readonly tags: Tags;
  readonly log: Logger;
}

/** What this origin still owes or is owed; all 0 and `handover` undefined: nothing. */
export interface Owed {
  /** What its start still waits for. */
  readonly handover?: string;
  /** Parts of the records that differ from another owner's; undefined until all were compared, and the disk looked through, once. 0 outside the ring. */
  readonly records: number | undefined;
  /** Pushed blobs that it still has to get. */
  readonly blobs: number;
  /** Copies that it still has to send. */
  readonly copies: number;
}

/** Keeps what is acknowledged on all its owners: handover at the start, comparison after it. ADR 0023. */
export class Recovery {
  readonly startUp: StartUp;
  readonly antiEntropy: AntiEntropy;
  readonly pages: RecordPages;
  readonly copies: CopiesOwed;
  readonly pull: SyncPull;
  readonly #deps: RecoveryDeps;
  readonly #ring: () => RecoveryRing;
  readonly #looking: LookThrough;

  constructor(deps: RecoveryDeps, ring: () => RecoveryRing, options: { readonly compareEveryMs: number }) {
    const {
      folder,
      records,
      standing,
      digests,
      members,
      index,
      store,
      hints,
      cluster,
      tags,
      replicator,
      log,
    } = deps;
    this.#deps = deps;
    this.#ring = ring;
    this.pages = new RecordPages({ db: folder.db, records, digests, selfId: members.selfId });
    this.copies = new CopiesOwed({ store, hints, cluster, replicator });
    const alone = new AloneEntries({ records, digests, selfId: members.selfId });
    const floors = new FloorTakeover({ members, records, digests });
    this.pull = new SyncPull({
      members,
      digests,
      pages: this.pages,
      alone,
      floors,
      blobs: index,
      store,
      log,
    });
    const { pull } = this;
    this.startUp = new StartUp({
      members,
      standing,
      digests,
      pull,
      ring,
      agreements: records.agreements,
      log,
    });
    this.antiEntropy = new AntiEntropy(
      { members, standing, digests, pull, blobs: index, tags, log, nowMs: () => performance.now() },
      { everyMs: options.compareEveryMs },
    );
    this.#looking = new LookThrough({ index, store, log });
    index.onLost(() => this.antiEntropy.askSoon());
    let isSettled = standing.isSettled;
    standing.onChange(() => {
      if (isSettled === standing.isSettled) return;
      isSettled = standing.isSettled;
      for (const id of members.ids) if (id !== members.selfId) this.antiEntropy.soon(id);
    });
    members.onReturn((id) => {
      this.startUp.soon(id);
      this.antiEntropy.soon(id);
      replicator.retrySoon(id);
    });
  }

  start(): void {
    this.startUp.start();
    this.antiEntropy.start();
    this.#looking.start();
  }

  async stop(): Promise<void> {
    const reason = new CodedError('DRAINING');
    const looking = this.#looking.stop();
    await this.startUp.stop(reason);
    await this.antiEntropy.stop();
    await looking;
  }

  owed(): Owed {
    const { index, hints } = this.#deps;
    const handover = this.startUp.waiting;
    const compared = this.#looking.isDone ? this.antiEntropy.differing : undefined;
    return {
      ...(handover === undefined ? {} : { handover }),
      records: this.#ring().isOutside ? 0 : compared,
      blobs: index.wanted,
      copies: hints.size,
    };
  }

  /** Copies that this origin still has to send. */
  get copiesOwed(): number {
    return this.#deps.hints.size;
  }

  /** Records here that other origins own by now; NaN before they were looked through under this membership. */
  get formerRecords(): number {
    return this.#ring().formerRecords ?? Number.NaN;
  }

  /** The database takes no records at present. */
  get isRefusing(): boolean {
    return this.#deps.folder.db.isTorn;
  }

  /** In words, for `/readyz`; empty if nothing is owed, as far as is known. */
  get warnings(): string[] {
    const { index, hints, members } = this.#deps;
    const away = new Set(this.antiEntropy.unreached.keys());
    for (const id of members.ids) if (members.isSuspect(id)) away.add(id);
    const differing = this.antiEntropy.differing ?? 0;
    const waiting = this.startUp.waiting;
    if (this.#ring().isOutside) return [`${waiting}`];
    return [
      ...this.#deps.folder.db.warnings,
      ...this.#looking.warnings,
      ...(waiting === undefined
        ? []
        : [`under-replicated: ${waiting}; what they own too is not served here`]),
      ...(away.size === 0
        ? []
        : [`under-replicated: ${[...away].join(', ')} cannot be compared with now and may lack copies`]),
      ...(differing === 0
        ? []
        : ['under-replicated: records differ between origins; they are being compared']),
      ...(hints.size === 0 ? [] : [`under-replicated: ${hints.size} copies still go to other origins`]),
      ...(index.wanted === 0
        ? []
        : [`under-replicated: ${index.wanted} pushed blobs still come from other origins`]),
    ];
  }

  /**
   * Tells all others that this origin stops cleanly, so that they confirm its next start. Returns the token for that;
   * undefined if one of them did not note it, or if this origin does not count.
   */
  async tellClosing(): Promise<string | undefined> {
    const { members, standing } = this.#deps;
    const others = members.ids.filter((id) => id !== members.selfId);
    if (!standing.isSettled || others.length === 0) return undefined;
    const token = randomBytes(12).toString('hex');
    const { generation } = standing.standing;
    const json = { id: members.selfId, generation, token };
    const call = { ...to(ORIGIN_SYNC.closing), json, headersTimeoutMs: CLOSING_MS };
    const told = await askAll(others, async (id) => await members.json(id, call));
    return withoutAnswer(told).length === 0 ? token : undefined;
  }
}
