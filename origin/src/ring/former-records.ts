import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { backoffMs } from '@sepia/base/async/backoff';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { isMoving } from '@sepia/cluster/membership';
import { counted } from '@sepia/records/core/standing';
import type { Members } from '../cluster/members.ts';
import { COVERS_MS, MAX_FORMER_REST_MS, PAGE_REST_MS, PASS_REST_MS } from '../deadlines/members.ts';
import { RECORD_SPACES, type RecordSpace } from '../records/core/record-shard.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { FormerRecord, RecordPages } from '../recovery/record-pages.ts';

/** Pages of one round, so that the ring is looked at in between, and the rest between two of them, in ms. */
const ROUND_PAGES = 20;

interface FormerRecordsDeps {
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'isSuspect' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'isSettled' | 'standing' | 'sender'>;
  readonly pages: Pick<RecordPages, 'former' | 'dropFormer'>;
  /** All origins keep their records in one place: none of them is a former owner's. */
  readonly isShared: boolean;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** Where a pass through the records is. */
interface Pass {
  readonly epoch: number;
  space: number;
  after: string | undefined;
  dropped: number;
  left: number;
}

/**
 * Records of repositories that other origins own since a change of the ring. They go once every one of their owners says
 * that it has the same or something later; what one of them lacks stays. ADR 0071.
 */
export class FormerRecords {
  readonly #deps: FormerRecordsDeps;
  #pass: Pass | undefined;
  #count: { readonly epoch: number; readonly left: number } | undefined;
  /** Passes in a row that dropped nothing; the next one is due at `#dueMs`, or under another epoch. */
  #idlePasses = 0;
  #dueMs = 0;

  constructor(deps: FormerRecordsDeps) {
    this.#deps = deps;
  }

  /** How many were left by the last pass; undefined before there was a whole one under this membership. */
  get count(): number | undefined {
    const { members, isShared } = this.#deps;
    if (isShared || members.epoch === 0) return 0;
    return this.#count?.epoch === members.epoch ? this.#count.left : undefined;
  }

  /** One round: some pages of a pass. A pass is made once for each membership, and again ever less often while some are left. */
  async tidy(signal: AbortSignal): Promise<void> {
    const { members, nowMs } = this.#deps;
    const { epoch } = members;
    // Under the first membership nothing ever moved.
    if (isMoving({ epoch }) || this.count === 0) return;
    if (this.#pass?.epoch !== epoch) {
      if (this.#count?.epoch !== epoch) this.#idlePasses = 0;
      else if (nowMs() < this.#dueMs) return;
      this.#pass = { epoch, space: 0, after: undefined, dropped: 0, left: 0 };
    }
    for (let pages = 0; pages < ROUND_PAGES && members.epoch === epoch; pages++) {
      if (pages > 0) await delay(PAGE_REST_MS, signal);
      if (await this.#page(this.#pass, signal)) continue;
      this.#end(this.#pass);
      return;
    }
  }

  /** False behind the last page. */
  async #page(pass: Pass, signal: AbortSignal): Promise<boolean> {
    const { pages, members, standing } = this.#deps;
    const space = RECORD_SPACES[pass.space];
    if (space === undefined) return false;
    const { entries, next } = await pages.former(space, pass.after);
    // A page that fails in its middle is read again, without what went.
    let left = 0;
    for (const [owners, records] of byOwners(entries)) {
      if (members.epoch !== pass.epoch) return true;
      // Who does not count, as an origin that was taken out of the ring, drops nothing; what is left here is counted.
      const covered = standing.isSettled
        ? await this.#coveredByAll(space, owners.split(','), records, pass.epoch, signal)
        : [];
      const dropped = await pages.dropFormer(space, covered, () => this.#isStill(pass.epoch));
      pass.dropped += dropped;
      left += records.length - dropped;
    }
    pass.left += left;
    pass.after = next;
    if (next === undefined) pass.space += 1;
    return true;
  }

  #end(pass: Pass): void {
    const { log, nowMs } = this.#deps;
    const { epoch, dropped, left } = pass;
    this.#pass = undefined;
    this.#count = { epoch, left };
    this.#idlePasses = dropped > 0 ? 1 : this.#idlePasses + 1;
    this.#dueMs = nowMs() + backoffMs(this.#idlePasses, PASS_REST_MS, MAX_FORMER_REST_MS);
    const facts = { epoch, dropped, left };
    if (dropped > 0) log.info(facts, 'records that other origins own now are gone from here');
    else if (left > 0)
      log.debug(facts, 'records that other origins own now are not confirmed by all of them');
  }

  /** Both say it: the disk before messages of the next epoch are taken, and what places keys. */
  #isStill(epoch: number): boolean {
    const { members, standing } = this.#deps;
    return members.epoch === epoch && standing.standing.epoch === epoch && standing.isSettled;
  }

  async #coveredByAll(
    space: RecordSpace,
    owners: readonly string[],
    records: readonly FormerRecord[],
    epoch: number,
    signal: AbortSignal,
  ): Promise<FormerRecord[]> {
    const { members, standing } = this.#deps;
    // All must say so: the others are not asked for nothing.
    if (owners.some((id) => members.isSuspect(id))) return [];
    const json = { space, records: records.map(({ key, stored }) => ({ key, stored })) };
    const call = { ...to(ORIGIN_SYNC.covers), json, epoch, headersTimeoutMs: COVERS_MS };
    const said = await askAll(
      owners,
      async (id, over) => await members.counted<{ covered: boolean[] }>(id, { ...call, signal: over }),
      { signal },
    );
    const own = { sender: standing.sender, answer: undefined };
    const told = counted([...answersOf(said), own]).filter(({ answer }) => answer !== undefined);
    if (told.length < owners.length) return [];
    return records.filter((_, index) => told.every(({ answer }) => answer?.covered[index] === true));
  }
}

function byOwners(entries: readonly FormerRecord[]): Map<string, FormerRecord[]> {
  const found = new Map<string, FormerRecord[]>();
  for (const one of entries) {
    const name = one.owners.join(',');
    const same = found.get(name);
    if (same === undefined) found.set(name, [one]);
    else same.push(one);
  }
  return found;
}
