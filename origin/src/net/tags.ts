import { randomInt } from 'node:crypto';
import { shardKey } from '@sepia/shared/cluster/cluster';
import type { Digest } from '@sepia/shared/digest';
import { CodedError, isCoded } from '@sepia/shared/errors';
import type { RepositoryName, Tag } from '@sepia/shared/names/repository';
import { parseRegisterReply } from '@sepia/shared/records/acceptor-store';
import { type RecordStore, tagKey } from '@sepia/shared/records/record-store';
import type { RegisterReply, RegisterRequest } from '@sepia/shared/records/register';
import { RegisterClient } from '@sepia/shared/records/register-client';
import { mayMove, type TagFacts, type TagRules } from '../core/tag-policy.ts';
import { type Members, QUICK_MS } from './members.ts';

/** Value of a tag's register. */
export interface TagRecord extends TagFacts {
  readonly digest: Digest;
}

/** A tag of a repository of an upstream. */
export interface TagName {
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly tag: Tag;
}

/** Rounds without majority are not repeated long: the caller has other ways or answers 503. */
const REGISTER_OPTIONS = { deadlineMs: 5_000, requestTimeoutMs: QUICK_MS, quorumTries: 2 };

interface TagsDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly nowMs: () => number;
}

/** Tags as compare-and-set registers on the owners of their repository's shard. */
export class Tags {
  readonly #deps: TagsDeps;
  readonly #registers: RegisterClient;

  constructor(deps: TagsDeps) {
    this.#deps = deps;
    this.#registers = new RegisterClient(
      {
        transport: async (id, request, signal) => await this.#send(id, request, signal),
        chance: () => randomInt(2 ** 32) / 2 ** 32,
        nowMs: deps.nowMs,
      },
      { proposerId: deps.members.selfId, ...REGISTER_OPTIONS },
    );
  }

  /** Quorum read. @throws `QUORUM_LOST`, `CONFLICT` */
  async read(name: TagName): Promise<TagRecord | undefined> {
    return await this.#registers.read<TagRecord>(keyOf(name), this.#owners(name));
  }

  /** Points a tag at a digest. @throws `TAG_IMMUTABLE`, `QUORUM_LOST`, `CONFLICT` */
  async move(name: TagName, digest: Digest, rules: TagRules): Promise<void> {
    const next: TagRecord = { digest, checkedAtMs: this.#deps.nowMs() };
    await this.#registers.change<TagRecord>(keyOf(name), this.#owners(name), (current) => {
      if (mayMove(current?.digest, digest, rules)) return next;
      throw new CodedError('TAG_IMMUTABLE', { detail: { tag: name.tag, digest: current?.digest } });
    });
  }

  /**
   * Deletes a tag, only while it points at `digest` if one is given: one that was moved meanwhile stays. False if there
   * was nothing to delete. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async delete(name: TagName, digest?: Digest): Promise<boolean> {
    if ((await this.read(name)) === undefined) return false;
    let deleted = false;
    await this.#registers.change<TagRecord>(keyOf(name), this.#owners(name), (current) => {
      const doomed = current !== undefined && (digest === undefined || current.digest === digest);
      deleted = doomed;
      return doomed ? undefined : current;
    });
    return deleted;
  }

  /** The upstream does not have the tag any more. A newer revalidation by somebody else stays. */
  async drop(name: TagName, seen: TagRecord): Promise<void> {
    await this.#registers.change<TagRecord>(keyOf(name), this.#owners(name), (current) =>
      current !== undefined && current.digest === seen.digest && current.checkedAtMs <= seen.checkedAtMs
        ? undefined
        : current,
    );
  }

  #owners(name: TagName): readonly string[] {
    return this.#deps.members.placement(shardKey(name.upstream, name.repository)).owners;
  }

  async #send(id: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterReply> {
    const { members, records } = this.#deps;
    if (id === members.selfId) return await records.registers.handle(request);
    return parseRegisterReply(
      await members.json<unknown>(id, { method: 'POST', path: '/v1/register', json: request, signal }),
    );
  }
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
