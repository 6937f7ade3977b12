import type { Digest } from '@sepia/base/digest';
import { isShown } from '@sepia/records/core/join';
import { Fence } from '../../../src/fence/core/fence.ts';
import type { GcLink, GcReferrer } from '../../../src/gc/core/mark.ts';
import { type GcAsk, type SweepRules, sweepBytes, sweepRepository } from '../../../src/gc/core/sweep.ts';
import { type Clocked, joined, latest } from './entries.ts';
import { linkKey, referrerKey } from './keys.ts';
import { type Process, Scheduler } from './scheduler.ts';

export const REPOSITORIES = ['a', 'b', 'c'];
const ORIGINS = 5;
const OWNERS = 3;
const QUORUM = 2;

interface Member {
  readonly fence: Fence;
  readonly records: Map<string, Clocked>;
  readonly bytes: Map<Digest, number>;
}

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
  readonly members: Member[] = Array.from({ length: ORIGINS }, () => ({
    fence: new Fence(),
    records: new Map(),
    bytes: new Map(),
  }));
  readonly tags = new Map<string, TagMoves>();
  /** Acknowledged links by key, with the clock of the write; what clients deleted is taken off. */
  readonly acknowledged = new Map<string, number>();
  /** What manifests name; subjects apart. */
  readonly children = new Map<Digest, readonly Digest[]>();
  readonly subjects = new Map<Digest, Digest>();
  readonly counts = { pushed: 0, refused: 0, missing: 0, mounted: 0, swept: 0, removed: 0, gaveUp: 0 };
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

  copies(digest: Digest): number {
    return this.owners(digest).filter(({ bytes }) => bytes.has(digest)).length;
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
        .filter(([, atMs]) => rules.nowMs - atMs >= rules.graceMs)
        .map(([one]) => one);
      const done = yield* this.#drive(generation, '', sweepBytes(old, rules));
      if (done === undefined) return;
      this.counts.removed += done.removed.blobs;
    }
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
        return yield* this.#view(repository);
      case 'read':
        yield;
        return new Map(question.digests.map((digest) => [digest, this.children.get(digest)!]));
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
        for (const { fence, bytes } of this.members) {
          for (const digest of question.digests) {
            const isOld = this.nowMs - (bytes.get(digest) ?? this.nowMs) >= this.graceMs;
            if (isOld && fence.mayRemove(generation, digest, this.nowMs) && bytes.delete(digest)) blobs += 1;
          }
          yield;
        }
        return { blobs, bytes: 0 };
      }
      case 'release':
        for (const { fence } of this.members) {
          fence.release(generation);
          yield;
        }
    }
    return undefined;
  }

  /** From every owner, merged; owners that lack something get it. */
  *#view(repository: string): Generator<void, unknown, void> {
    const merged = new Map<string, Clocked>();
    for (const { records } of this.owners(repository)) {
      for (const [key, record] of records) {
        if (key.split(' ')[1] !== repository) continue;
        const known = merged.get(key);
        merged.set(key, joined(known, record));
      }
      yield;
    }
    for (const { records } of this.owners(repository)) {
      for (const [key, record] of merged) this.#merge(records, key, record);
      yield;
    }
    const links = new Map<Digest, GcLink>();
    const referrers: GcReferrer[] = [];
    for (const [key, { atMs, value }] of merged) {
      if (value === undefined) continue;
      const [kind, , first = '', second = ''] = key.split(' ');
      const digest = first as Digest;
      if (kind === 'link')
        links.set(digest, { digest, atMs, sizeBytes: 1, isManifest: this.children.has(digest) });
      else referrers.push({ subject: digest, digest: second as Digest, atMs });
    }
    const roots = new Set<Digest>();
    for (const [key, { digest, history, movedAtMs }] of this.tags) {
      if (!key.startsWith(`${repository} `)) continue;
      if (digest !== undefined || this.nowMs - movedAtMs < this.graceMs)
        for (const one of history) roots.add(one);
    }
    return { roots, links, referrers };
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
        if (fence.mayRemove(generation, key, this.nowMs)) this.#merge(records, key, { atMs });
      }
      for (const { subject, digest, atMs } of referrers)
        this.#merge(records, referrerKey(repository, subject, digest), { atMs });
      yield;
    }
    return undefined;
  }

  #move(repository: string, tag: string, digest: Digest): void {
    const key = `${repository} ${tag}`;
    const history = [...(this.tags.get(key)?.history ?? []), digest].slice(-3);
    this.tags.set(key, { digest, movedAtMs: this.nowMs, history });
  }

  #merge(records: Map<string, Clocked>, key: string, record: Clocked): number | undefined {
    const known = records.get(key);
    const standing = joined(known, record);
    records.set(key, standing);
    return isShown(record, standing, false) ? undefined : standing.atMs;
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
        for (const key of keys) behindMs = Math.max(behindMs, this.#merge(records, key, record) ?? 0);
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
    for (const key of keys) this.#merge(records, key, record);
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

  *#copy({ fence, bytes }: Member, digest: Digest): Process {
    if (bytes.has(digest)) {
      fence.rescue(digest);
      return;
    }
    fence.write([digest]);
    yield;
    bytes.set(digest, this.nowMs);
    yield;
    fence.done([digest]);
  }
}
