import { chance } from '@sepia/base/clock/chance';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { admitEpoch } from '@sepia/records/core/standing';
import { DATABASE_DEADLINE_MS } from '@sepia/records/deadlines';
import { type AcceptorStore, parseRegisterReply } from '@sepia/records/register/acceptor-store';
import type { RegisterReply, RegisterRequest } from '@sepia/records/register/register';
import {
  type Owners,
  type RegisterCall,
  RegisterClient,
  type RegisterClientDeps,
  type SentReply,
} from '@sepia/records/register/register-client';
import { type RecordStore, tagKey } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import {
  PATIENT_REGISTER_MS,
  QUICK_MS,
  REGISTER_MS,
  REGISTER_PATIENT_MS,
  SHARED_SLACK_MS,
  SILENT_MS,
} from '../deadlines/members.ts';
import { mayMove, type TagMover, type TagRules } from '../upstream/core/tag-policy.ts';
import { shardOf } from './core/record-shard.ts';
import {
  type Behind,
  isReplaced,
  moved,
  owedAgain,
  owing,
  paid,
  recordOf,
  restored,
  type TagMoveKind,
  type TagRecord,
  type TagState,
  takenAway,
  yielded,
} from './core/tag-record.ts';
import type { OwnStanding } from './own-standing.ts';

/** A tag of a repository of an upstream. */
export interface TagName {
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly tag: Tag;
}

/** When the registry behind was asked: a clock of before that, and the check that was on record then. */
export interface Seen {
  readonly seenMs?: number | undefined;
  readonly knownMs?: number | undefined;
}

/** Given where a change is to be written back: what the registry behind was seen to have. */
export interface Written {
  readonly has: Behind;
}

/** How a tag is taken away. */
interface Taking {
  /** Id of a change that other origins may have been given as well; it is made once. */
  readonly change?: string | undefined;
  readonly behind?: Written | undefined;
  /** Aborted when nobody waits for it any more: then nothing is taken. */
  readonly signal?: AbortSignal | undefined;
}

/** Rounds without majority are not repeated long: the caller has other ways or answers 503. */
const REGISTER_OPTIONS = { deadlineMs: REGISTER_MS, requestTimeoutMs: QUICK_MS, quorumTries: 2 };
/** For what nobody has another way: owners whose disks are slow get time. */
const PATIENCE = { messageMs: REGISTER_PATIENT_MS, deadlineMs: PATIENT_REGISTER_MS };
/** A shared table tries again on its own. */
const SHARED_OPTIONS = {
  deadlineMs: DATABASE_DEADLINE_MS,
  requestTimeoutMs: DATABASE_DEADLINE_MS + SHARED_SLACK_MS,
  quorumTries: 1,
};

interface TagsDeps extends Partial<Pick<RegisterClientDeps, 'chance' | 'delay' | 'incarnation'>> {
  readonly members: Pick<Members, 'selfId' | 'shard' | 'counted' | 'isSuspect' | 'isGone'>;
  readonly records: RecordStore;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'standing'>;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

/** Tags as compare-and-set registers on the owners of their repository's shard. */
export class Tags {
  readonly #deps: TagsDeps;
  readonly #registers: RegisterClient;
  #reach: ((epoch: number, from: string) => Promise<void>) | undefined;

  constructor(deps: TagsDeps) {
    this.#deps = deps;
    this.#registers = new RegisterClient(
      {
        transport: async (...sent) => await this.#send(...sent),
        chance: deps.chance ?? chance,
        nowMs: deps.nowMs,
        isSuspect: (id) => deps.members.isSuspect(id),
        isGone: (id) => deps.members.isGone(id),
        ...(deps.delay === undefined ? {} : { delay: deps.delay }),
        ...(deps.incarnation === undefined ? {} : { incarnation: deps.incarnation }),
      },
      { proposerId: deps.members.selfId, ...(deps.records.isShared ? SHARED_OPTIONS : REGISTER_OPTIONS) },
    );
  }

  /** Another owner knows a newer membership: `reach` resolves once it is known here. */
  onOutdated(reach: (epoch: number, from: string) => Promise<void>): void {
    this.#reach = reach;
  }

  /** Quorum read. `isPatient`: nobody has another way, so slow owners get time. @throws `QUORUM_LOST`, `CONFLICT` */
  async read(name: TagName, how: { readonly isPatient?: boolean } = {}): Promise<TagRecord | undefined> {
    return recordOf(await this.state(name, how));
  }

  /** As {@link read}, with the tag's history; also of one that was taken away. */
  async state(
    name: TagName,
    { isPatient = false }: { readonly isPatient?: boolean } = {},
  ): Promise<TagState | undefined> {
    const patience = isPatient ? PATIENCE : undefined;
    return await this.#registers.read<TagState>(keyOf(name), this.#owners(name), { patience });
  }

  /**
   * Points a tag at a digest and returns what it points at then: another one if the policy lets a `revalidate` not
   * move it, the tag awaits write-back, or who asked later was answered sooner. `change`: id of a change that other origins
   * may have been given as well; it is made once. `behind`: where the registry behind was just seen to have the tag (mode
   * write-back). `seenMs`: a clock taken before that registry was asked; what came or went here since then stays so.
   * `knownMs`: the check that was on record then.
   * @throws `TAG_IMMUTABLE` (`push`, `set`), `TAG_UNKNOWN` (`revalidate`, of one that was deleted here), `QUORUM_LOST`, `CONFLICT`
   */
  async move(
    name: TagName,
    digest: Digest,
    rules: TagRules,
    mover: TagMover,
    {
      change,
      behind,
      ...seen
    }: Seen & {
      readonly change?: string | undefined;
      readonly behind?: Behind;
    } = {},
  ): Promise<TagRecord> {
    const move = { digest, atMs: this.#deps.dateMs(), how: mover, by: this.#deps.members.selfId };
    const fn = (current: TagState | undefined): TagState | undefined => {
      if (mover === 'revalidate' && current !== undefined && isOurs(current, rules, seen)) {
        if (current.digest !== undefined) return current;
        throw unknownTag(name);
      }
      if (mayMove(current?.digest, digest, rules, mover)) {
        const next = moved(current, move);
        // Of two that asked that registry, who did so later is believed, whoever hears of it first.
        if (mover === 'revalidate') return { ...next, checkedAtMs: seen.seenMs ?? move.atMs };
        return rules.mode === 'write-back' ? owing(current, next, behind) : next;
      }
      if (mover === 'revalidate') return current;
      throw new CodedError('TAG_IMMUTABLE', { detail: { tag: name.tag, digest: current?.digest } });
    };
    // What a registry behind said counts without the register as well.
    const patience = mover === 'revalidate' ? undefined : PATIENCE;
    const state = await this.#change(name, fn, { id: change, patience });
    // Of a change that another origin made already the tag may be gone again.
    return recordOf(state) ?? { digest, checkedAtMs: move.atMs };
  }

  /** The upstream does not have the tag any more. A newer revalidation by somebody else stays: false then. */
  async drop(name: TagName, seen: TagRecord): Promise<boolean> {
    const isMeant = (current: TagRecord): boolean =>
      current.owed === undefined && current.digest === seen.digest && current.checkedAtMs <= seen.checkedAtMs;
    return await this.#takeAway(name, 'delete', isMeant, {}, false);
  }

  /**
   * The registry behind has what `seen` says: it owes nothing, unless the tag is another by now. `isNew`: it was just made
   * to have that. False if it had been given a later change meanwhile, which it is owed again. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async paid(name: TagName, seen: Digest | undefined, isNew: boolean): Promise<boolean> {
    const atMs = this.#deps.dateMs();
    let isLost = false;
    await this.#change(name, (current) => {
      isLost = isNew && isReplaced(current, seen);
      if (!isLost) return paid(current, seen, atMs);
      return owing(current, { ...current!, checkedAtMs: atMs }, seen ?? null);
    });
    return !isLost;
  }

  /** The registry behind lost a tag that is `digest` here, see {@link owedAgain}. @throws `QUORUM_LOST`, `CONFLICT` */
  async owedAgain(name: TagName, digest: Digest): Promise<TagState | undefined> {
    return await this.#change(name, (current) => owedAgain(current, digest));
  }

  /** The registry behind wins a conflict, see {@link yielded}. @throws `QUORUM_LOST`, `CONFLICT` */
  async yield(name: TagName, lost: Digest | undefined, won: Digest | null): Promise<void> {
    const move = { atMs: this.#deps.dateMs(), by: this.#deps.members.selfId };
    await this.#change(name, (current) => yielded(current, lost, won, move));
  }

  /**
   * Deletes a tag, only while it points at `digest` if one is given: one that was moved meanwhile stays, and one that was
   * confirmed, as by a push of the same, since it was `seen`. False if there was nothing to delete. Its history stays and says
   * `how`. @throws `QUORUM_LOST`, `CONFLICT`, the reason of `signal`
   */
  async delete(
    name: TagName,
    digest?: Digest,
    how: Extract<TagMoveKind, 'delete' | 'purge'> = 'delete',
    { seen, ...taking }: Taking & { readonly seen?: Pick<TagState, 'checkedAtMs'> } = {},
  ): Promise<boolean> {
    if ((await this.read(name, { isPatient: true })) === undefined) return false;
    const isMeant = (current: TagRecord): boolean =>
      (digest === undefined || current.digest === digest) &&
      (seen === undefined || current.checkedAtMs === seen.checkedAtMs);
    return await this.#takeAway(name, how, isMeant, taking);
  }

  /** Puts the state of a backup back, unless something later is there. */
  async restore(name: TagName, backup: TagState): Promise<void> {
    await this.#change(name, (current) => restored(current, backup));
  }

  async #takeAway(
    name: TagName,
    how: Extract<TagMoveKind, 'delete' | 'purge'>,
    isMeant: (current: TagRecord) => boolean,
    { change, behind, signal }: Taking,
    isPatient = true,
  ): Promise<boolean> {
    const move = { atMs: this.#deps.dateMs(), how, by: this.#deps.members.selfId };
    let isTaken = false;
    const fn = (current: TagState | undefined): TagState | undefined => {
      signal?.throwIfAborted();
      const record = recordOf(current);
      isTaken = record !== undefined && isMeant(record);
      if (!isTaken) return current;
      const next = takenAway(current, move)!;
      return behind === undefined ? next : owing(current, next, behind.has);
    };
    await this.#change(name, fn, { id: change, patience: isPatient ? PATIENCE : undefined });
    return isTaken;
  }

  /** Brings every owner of a tag to what is chosen, by an identity round. @throws `QUORUM_LOST`, `CONFLICT` */
  async settle(key: string, owners: Owners): Promise<void> {
    await this.#registers.change(key, owners, (current) => current, { patience: PATIENCE });
  }

  async #change(
    name: TagName,
    fn: (current: TagState | undefined) => TagState | undefined,
    call: RegisterCall = { patience: PATIENCE },
  ): Promise<TagState | undefined> {
    return await this.#registers.change(keyOf(name), this.#owners(name), fn, call);
  }

  #owners(name: TagName): Owners {
    return () => this.#deps.members.shard(shardKey(name.upstream, name.repository));
  }

  async #send(
    id: string,
    request: RegisterRequest,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<SentReply> {
    const { members, records, standing } = this.#deps;
    if (id === members.selfId) {
      const reply = await answerRegister({ members, standing, registers: records.registers }, request);
      return { ...reply, sender: standing.sender };
    }
    const { sender, answer } = await members.counted<unknown>(id, {
      ...to(ORIGIN_RECORDS.register),
      json: request,
      signal,
      // Who asks gives up in time; a socket's own clock is a coarse one.
      ...(timeoutMs > QUICK_MS ? { headersTimeoutMs: 2 * timeoutMs, silentMs: SILENT_MS } : {}),
    });
    const reply = parseRegisterReply(answer);
    if (reply.type === 'outdated') await this.#reach?.(reply.epoch, id);
    return { ...reply, sender };
  }
}

/**
 * What this origin's acceptor answers: only under the epoch that holds here, before and after its work.
 * @throws `REQUEST_INVALID`, `RECORDS_PENDING`
 */
export async function answerRegister(
  deps: {
    readonly members: Pick<Members, 'shard'>;
    readonly standing: Pick<OwnStanding, 'require' | 'standing'>;
    readonly registers: Pick<AcceptorStore, 'handle'>;
  },
  request: RegisterRequest,
): Promise<RegisterReply> {
  const { members, standing, registers } = deps;
  const shard = shardOf('r1', request.key);
  if (shard === undefined) throw new CodedError('REQUEST_INVALID', { message: 'register has no such key' });
  const isOutdated = (): boolean => admitEpoch(standing.standing, request.epoch ?? 0) === undefined;
  if (!isOutdated()) {
    standing.require(members.shard(shard));
    const reply = await registers.handle(request);
    if (!isOutdated()) return reply;
  }
  return { type: 'outdated', epoch: standing.standing.epoch };
}

/**
 * True where the registry behind is not believed: it has not heard of the tag as it is here, or was asked before it had, or
 * before who was answered sooner. What was on record before it was asked is older than its answer, also under a clock that was
 * ahead. What was taken away here in pull-through comes back whenever it was asked.
 */
function isOurs(
  { owed, checkedAtMs, digest }: TagState,
  { mode }: TagRules,
  { seenMs = Number.POSITIVE_INFINITY, knownMs }: Seen,
): boolean {
  if (owed !== undefined) return true;
  if (mode !== 'write-back' && digest === undefined) return false;
  return checkedAtMs >= seenMs && checkedAtMs !== knownMs;
}

/** Order of tag lists: by bytes, as the distribution-spec's "lexical". */
export function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** True if the upstream could still be asked although the register could not. */
export function isQuorumProblem(error: unknown): boolean {
  return isCoded(error, 'QUORUM_LOST') || isCoded(error, 'CONFLICT');
}

function keyOf(name: TagName): string {
  return tagKey(name.upstream, name.repository, name.tag);
}

/** The answer for a tag that its repository does not have. */
export function unknownTag({ repository, tag }: Pick<TagName, 'repository' | 'tag'>): CodedError {
  return new CodedError('TAG_UNKNOWN', { detail: { repository, tag } });
}
