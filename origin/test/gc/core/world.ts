import type { Digest } from '@sepia/base/digest';
import { Fence } from '../../../src/fence/core/fence.ts';
import type { GcLink, GcReferrer } from '../../../src/gc/core/mark.ts';
import {
  type GcAsk,
  type SweepRules,
  sweepBackend,
  sweepBytes,
  sweepRepository,
} from '../../../src/gc/core/sweep.ts';
import { type Clocked, latest } from './entries.ts';
import { linkKey, referrerKey } from './keys.ts';
import { type Process, Scheduler } from './scheduler.ts';
import { behindIn, type Member, merge, viewOf } from './world-parts.ts';

export const REPOSITORIES = ['a', 'b', 'c'];
const ORIGINS = 5;
const OWNERS = 3;
const QUORUM = 2;

export interface TagMoves {
  digest?: Digest;
  movedAtMs: number;
  history: Digest[];
}

/**
 * A cluster of five origins without I/O: links, referrers and bytes on three owners each, two of them for an
 * acknowledgement, the third behind. Tags are registers, so a move is one step.
 */
export class World extends Scheduler {
  graceMs = 3_600_000;
  /** Pushed blobs are brought to a backend, and may leave the members then. */
  hasBackend = false;
  readonly members: Member[] = Array.from({ length: ORIGINS }, () => ({
    fence: new Fence(),
    records: new Map(),
    bytes: new Map(),
    cached: new Set(),
  }));
  /** Blobs in the backend, by when they were written. */
  readonly backend = new Map<Digest, number>();
  readonly tags = new Map<string, TagMoves>();
  /** Acknowledged links by key, with the clock of the write; what clients deleted is taken off. */
  readonly acknowledged = new Map<string, number>();
  /** What manifests name; subjects apart. */
  readonly children = new Map<Digest, readonly Digest[]>();
  readonly subjects = new Map<Digest, Digest>();
  readonly counts = {
    pushed: 0,
    refused: 0,
    missing: 0,
    mounted: 0,
    swept: 0,
    removed: 0,
    gaveUp: 0,
    withdrawn: 0,
    evicted: 0,
  };
  readonly #places = new Map<string, number>();
  #generation = 0;

  owners(key: string): Member[] {
    let first = this.#places.get(key);
    if (first === undefined) {
      first = Math.floor(this.chance() * ORIGINS);
      this.#places.set(key, first);
    }
    return Array.from({ length: OWNERS }, (_, index) => this.members[(first + index) % ORIGINS]!);
  }

  link(repository: string, digest: Digest): Clocked | undefined {
    const key = linkKey(repository, digest);
    return latest(this.owners(repository).map(({ records }) => records.get(key)));
  }

  isLinked(repository: string, digest: Digest): boolean {
    return this.link(repository, digest)?.value === true;
  }

  /** Copies that are no longer needed where the backend has it do not count. */
  copies(digest: Digest): number {
    if (this.backend.has(digest)) return OWNERS;
    return this.owners(digest).filter(({ bytes, cached }) => bytes.has(digest) && !cached.has(digest)).length;
  }

  closure(digest: Digest): Digest[] {
    return [digest, ...(this.children.get(digest) ?? []).flatMap((child) => this.closure(child))];
  }

  *pushImage(repository: string, tag: string | undefined, digest: Digest): Process {
    for (const child of this.children.get(digest) ?? []) {
      if (this.children.has(child)) yield* this.pushImage(repository, undefined, child);
      else yield* this.#bringBlob(repository, child);
    }
    yield* this.#putManifest(repository, tag, digest);
  }

  /** HEAD, else a mount from another repository, else an upload. */
  *#bringBlob(repository: string, digest: Digest): Process {
    const member = this.pick(this.members);
    if (yield* this.#find(repository, digest)) {
      const key = linkKey(repository, digest);
      if (member.fence.isCondemned(key, this.nowMs)) yield* this.#write(repository, [key]);
      return;
    }
    const from = REPOSITORIES.find((other) => other !== repository && this.isLinked(other, digest));
    if (from !== undefined && this.chance() < 0.8 && (yield* this.#mount(from, repository, digest))) return;
    member.fence.write([digest]);
    yield* this.#place(digest);
    yield* this.#write(repository, [linkKey(repository, digest)]);
    member.fence.done([digest]);
  }

  *#mount(from: string, repository: string, digest: Digest): Generator<void, boolean, void> {
    const { fence } = this.pick(this.members);
    if (fence.use([digest], this.nowMs) !== undefined) {
      this.counts.refused += 1;
      return false;
    }
    yield;
    const found = yield* this.#find(from, digest);
    if (found) yield* this.#write(repository, [linkKey(repository, digest)]);
    fence.done([digest]);
    if (found) this.counts.mounted += 1;
    return found;
  }

  /** All that the manifest leads to must be linked, and is linked anew before a tag points at it. */
  *#putManifest(repository: string, tag: string | undefined, digest: Digest): Process {
    const { fence } = this.pick(this.members);
    const needed = [...new Set(this.closure(digest).slice(1))];
    const keys = [...needed, ...needed.map((one) => linkKey(repository, one))];
    if (fence.use(keys, this.nowMs) !== undefined) {
      this.counts.refused += 1;
      return;
    }
    const own = [digest, linkKey(repository, digest)];
    fence.write(own);
    try {
      for (const one of needed) {
        if (yield* this.#find(repository, one)) continue;
        this.counts.missing += 1;
        return;
      }
      yield* this.#place(digest);
      yield* this.#write(
        repository,
        [digest, ...needed].map((one) => linkKey(repository, one)),
      );
      const subject = this.subjects.get(digest);
      if (subject !== undefined) yield* this.#write(repository, [referrerKey(repository, subject, digest)]);
      if (tag !== undefined) this.#move(repository, tag, digest);
      this.counts.pushed += 1;
    } finally {
      fence.done([...keys, ...own]);
    }
  }

  /** An operator points a tag at a manifest that is there. */
  *setTag(repository: string, tag: string, digest: Digest): Process {
    const { fence } = this.pick(this.members);
    const all = [...new Set(this.closure(digest))];
    const keys = [...all, ...all.map((one) => linkKey(repository, one))];
    if (fence.use(keys, this.nowMs) !== undefined) {
      this.counts.refused += 1;
      return;
    }
    try {
      for (const one of all) if (!(yield* this.#find(repository, one))) return;
      yield* this.#write(
        repository,
        all.map((one) => linkKey(repository, one)),
      );
      this.#move(repository, tag, digest);
    } finally {
      fence.done(keys);
    }
  }

  deleteTag(repository: string, tag: string): void {
    const moves = this.tags.get(`${repository} ${tag}`);
    if (moves?.digest === undefined) return;
    delete moves.digest;
    moves.movedAtMs = this.nowMs;
  }

  *deleteManifest(repository: string, digest: Digest): Process {
    for (const [key, moves] of this.tags)
      if (key.startsWith(`${repository} `) && moves.digest === digest)
        this.deleteTag(repository, key.slice(repository.length + 1));
    yield;
    this.acknowledged.delete(linkKey(repository, digest));
    const subject = this.subjects.get(digest);
    if (subject !== undefined)
      yield* this.#write(repository, [referrerKey(repository, subject, digest)], false);
    yield* this.#write(repository, [linkKey(repository, digest)], false);
  }

  /** A whole sweep by one coordinator; ends in the middle where a member takes no condemnation. */
  *sweep(options: { readonly atOnce: number }): Process {
    const generation = `g${++this.#generation}`;
    const rules: SweepRules = { nowMs: this.nowMs, graceMs: this.graceMs, dryRun: false, ...options };
    for (const repository of REPOSITORIES) {
      for (let more = true; more; ) {
        const done = yield* this.#drive(generation, repository, sweepRepository(rules));
        if (done === undefined) return;
        this.counts.swept += done.links;
        more = done.more;
      }
    }
    for (const member of this.members) {
      const old = [...member.bytes]
        .filter(([one, atMs]) => rules.nowMs - atMs >= rules.graceMs && !member.cached.has(one))
        .map(([one]) => one);
      const done = yield* this.#drive(generation, '', sweepBytes(old, rules));
      if (done === undefined) return;
      this.counts.removed += done.removed.blobs;
    }
    const stored = [...this.backend]
      .filter(([, atMs]) => rules.nowMs - atMs >= rules.graceMs)
      .map(([one]) => one);
    const done = yield* this.#drive(generation, '', sweepBackend(stored, rules));
    // Most of what members have with a backend goes here: it is there too by then.
    this.counts.removed += done?.removed.blobs ?? 0;
    this.counts.withdrawn += done?.withdrawn.digests.length ?? 0;
  }

  *#drive<R>(
    generation: string,
    repository: string,
    machine: Generator<GcAsk, R, unknown>,
  ): Generator<void, R | undefined, void> {
    let next = machine.next();
    while (next.done !== true) {
      const answer = yield* this.#answer(generation, repository, next.value);
      if (answer === 'silent') {
        this.counts.gaveUp += 1;
        return undefined;
      }
      next = machine.next(answer);
    }
    return next.value;
  }

  *#answer(generation: string, repository: string, question: GcAsk): Generator<void, unknown, void> {
    switch (question.type) {
      case 'view':
        return yield* viewOf(this, repository);
      case 'read':
        yield;
        return new Map(
          question.digests.map((digest) => {
            const children = this.children.get(digest);
            return [digest, children === undefined ? 'no-manifest' : { blobs: [], manifests: children }];
          }),
        );
      case 'condemn': {
        const busy = new Set<Digest>();
        for (const { fence } of this.members) {
          const keys = new Map(
            question.digests.map((one) => [question.of === 'bytes' ? one : linkKey(repository, one), one]),
          );
          const answer = fence.condemn(generation, [...keys.keys()], this.nowMs);
          if (answer === false) return 'silent';
          for (const key of answer) busy.add(keys.get(key)!);
          yield;
        }
        return busy;
      }
      case 'bury':
        return yield* this.#bury(generation, repository, question.links, question.referrers);
      case 'linked': {
        const linked = new Set<Digest>();
        for (const { records } of this.members) {
          for (const [key, { value }] of records)
            if (value === true && key.startsWith('link ')) linked.add(key.split(' ')[2] as Digest);
          yield;
        }
        return linked;
      }
      case 'remove': {
        let blobs = 0;
        const kept: Digest[] = [];
        for (const { fence, bytes, cached } of this.members) {
          for (const digest of question.digests) {
            const isMeant = question.withCached || !cached.has(digest);
            const mayGo = fence.mayRemove(generation, digest, this.nowMs);
            if (!mayGo) kept.push(digest);
            if (mayGo && isMeant && bytes.delete(digest)) blobs += 1;
            if (!bytes.has(digest)) cached.delete(digest);
          }
          yield;
        }
        return { blobs, bytes: 0, kept };
      }
      case 'withdraw': {
        const gone: Digest[] = [];
        for (const digest of question.digests) {
          if (!this.members[0]!.fence.mayRemove(generation, digest, this.nowMs)) continue;
          this.backend.delete(digest);
          gone.push(digest);
          yield;
        }
        return { digests: gone, isUnclear: false };
      }
      case 'release':
        for (const { fence } of this.members) {
          fence.release(generation);
          yield;
        }
    }
    return undefined;
  }

  *#bury(
    generation: string,
    repository: string,
    links: readonly GcLink[],
    referrers: readonly GcReferrer[],
  ): Generator<void, unknown, void> {
    for (const { fence, records } of this.owners(repository)) {
      for (const { digest, atMs } of links) {
        const key = linkKey(repository, digest);
        if (fence.mayRemove(generation, key, this.nowMs)) merge(records, key, { atMs });
      }
      for (const { subject, digest, atMs } of referrers)
        merge(records, referrerKey(repository, subject, digest), { atMs });
      yield;
    }
    return undefined;
  }

  #move(repository: string, tag: string, digest: Digest): void {
    const key = `${repository} ${tag}`;
    const history = [...(this.tags.get(key)?.history ?? []), digest].slice(-3);
    this.tags.set(key, { digest, movedAtMs: this.nowMs, history });
  }

  *#find(repository: string, digest: Digest): Generator<void, boolean, void> {
    const key = linkKey(repository, digest);
    const owners = this.owners(repository);
    owners.splice(Math.floor(this.chance() * OWNERS), 1);
    const answers: (Clocked | undefined)[] = [];
    for (const { records } of owners) {
      answers.push(records.get(key));
      yield;
    }
    return latest(answers)?.value === true;
  }

  /** To two owners with a clock later than all that stands in the way; to the third behind. */
  *#write(repository: string, keys: readonly string[], isPut = true): Process {
    const startedMs = this.nowMs;
    for (let atMs = this.nowMs; ; ) {
      const owners = this.owners(repository);
      const [late] = owners.splice(Math.floor(this.chance() * OWNERS), 1);
      const record: Clocked = isPut ? { atMs, value: true } : { atMs };
      let behindMs = 0;
      for (const { records } of owners) {
        for (const key of keys) behindMs = Math.max(behindMs, merge(records, key, record) ?? 0);
        yield;
      }
      this.running.push(this.#behind(late!, keys, record));
      if (behindMs === 0) break;
      atMs = Math.max(this.nowMs, behindMs + 1);
    }
    if (isPut) for (const key of keys) this.acknowledged.set(key, startedMs);
  }

  *#behind({ records }: Member, keys: readonly string[], record: Clocked): Process {
    yield;
    for (const key of keys) merge(records, key, record);
  }

  /** Copies to the owners; one that has it is not sent it again. */
  *#place(digest: Digest): Process {
    const owners = this.owners(digest);
    const [late] = owners.splice(Math.floor(this.chance() * OWNERS), 1);
    for (const member of owners) yield* this.#copy(member, digest);
    if (this.chance() < 0.8) this.running.push(this.#copy(late!, digest));
    else yield* this.#copy(late!, digest);
    if (this.copies(digest) < QUORUM) throw new Error(`${digest} is on too few members after its push`);
  }

  *#copy(member: Member, digest: Digest): Process {
    const { fence, bytes, cached } = member;
    if (bytes.has(digest) && !cached.has(digest)) {
      fence.rescue(digest);
      return;
    }
    fence.write([digest]);
    yield;
    bytes.set(digest, this.nowMs);
    cached.delete(digest);
    if (this.hasBackend) this.running.push(behindIn(this, member, digest));
    yield;
    fence.done([digest]);
  }
}
