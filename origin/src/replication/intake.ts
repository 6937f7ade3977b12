import { type Digest, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { parseRepositoryName, type RepositoryName } from '@sepia/base/names/repository';
import { shardKey } from '@sepia/cluster/cluster';
import { type Reference, referenceText } from '@sepia/oci/route';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { INTENT_MS } from '../deadlines/members.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { OpenJob, ReplicationJob } from './replication-jobs.ts';
import type { ReplicationQueue, WaitingManifest } from './replication-queue.ts';
import { isWriteBackRule, type Target, writeBackRule } from './targets.ts';

type RepositoryId = { readonly upstream: string; readonly repository: RepositoryName };

interface IntakeDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly queue: ReplicationQueue;
  readonly targets: ReadonlyMap<string, Target>;
  readonly tagIndex: TagIndex;
  readonly nowMs: () => number;
}

/** What becomes a replication job: pushes, deletions, and all that is there when an operator asks. */
export class ReplicationIntake {
  readonly #deps: IntakeDeps;
  #wake = (): void => undefined;

  constructor(deps: IntakeDeps) {
    this.#deps = deps;
  }

  /** `wake` is called when the queue has something new. */
  onNoted(wake: () => void): void {
    this.#wake = wake;
  }

  /**
   * Notes on a quorum that a manifest is about to be pushed. Call what it returns when the push has happened, before it
   * is acknowledged. Rules copy tags, and manifests that refer to another; the registry behind gets whatever is pushed.
   * @throws `QUORUM_LOST`
   */
  async intend(
    name: RepositoryId,
    reference: Reference,
    pushed: { readonly digest: Digest; readonly hasSubject: boolean },
  ): Promise<() => Promise<void>> {
    const isMeant = ({ matcher, writeBack }: Target): boolean =>
      reference.kind === 'tag'
        ? matcher.matchesTag(name.upstream, name.repository, reference.tag)
        : (pushed.hasSubject || writeBack !== undefined) &&
          matcher.matchesRepository(name.upstream, name.repository);
    const { digest } = pushed;
    return await this.#intend(name, { kind: 'copy', reference: referenceText(reference), digest }, isMeant);
  }

  /**
   * As {@link intend}, of a tag or a manifest that is about to be deleted, and that the registry behind may have or rules take
   * away at their targets. A tag is to be here still: what never was is not theirs to take.
   * @throws `QUORUM_LOST`
   */
  async intendDelete(name: RepositoryId, reference: string): Promise<() => Promise<void>> {
    const isMeant = (target: Target): boolean =>
      isOfBehind(target, name) || takesAway(target, name, reference);
    return await this.#intend(name, { kind: 'delete', reference }, isMeant);
  }

  /** As {@link intendDelete}, of a tag that the registry behind keeps. @throws `QUORUM_LOST` */
  async intendPurge(name: RepositoryId, tag: string): Promise<() => Promise<void>> {
    const isMeant = (target: Target): boolean => takesAway(target, name, tag);
    return await this.#intend(name, { kind: 'delete', reference: tag }, isMeant);
  }

  async #intend(
    name: RepositoryId,
    job: Pick<ReplicationJob, 'kind' | 'reference'> & { readonly digest?: Digest },
    isMeant: (target: Target) => boolean,
  ): Promise<() => Promise<void>> {
    const { queue, nowMs } = this.#deps;
    const rules = [...this.#deps.targets.values()].filter(isMeant);
    if (rules.length === 0) return async () => undefined;
    const entry = (rule: string, state: ReplicationJob['state']): OpenJob =>
      queue.newEntry({ ...name, rule, state, ...job });
    const intents = rules.map(({ rule }) => entry(rule.name, 'intent'));
    const beganMs = nowMs();
    await queue.write(intents);
    return async () => {
      const due = intents.map((one) => ({
        ...one,
        atMs: one.atMs + 1,
        job: { ...one.job, state: 'waiting' as const },
      }));
      queue
        .write(due)
        .catch(ignoreFailure)
        .finally(() => this.#wake());
      // An intent that is about to run by itself may have run before the tag moved: jobs of their own then.
      if (nowMs() - beganMs > INTENT_MS / 2)
        await queue.write(rules.map(({ rule }) => entry(rule.name, 'waiting')));
    };
  }

  /** A change of that tag or manifest waits for the registry behind. @throws `QUORUM_LOST` */
  async isOwed(name: RepositoryId, reference: string): Promise<boolean> {
    const found = await this.#deps.queue.waiting(name, writeBackRule(name.upstream), reference);
    // An origin of the version before tells of any push.
    return found === reference;
  }

  /** Tag or digest of a push to a repository that its registry behind has not got. @throws `QUORUM_LOST` */
  async waiting(name: RepositoryId): Promise<string | undefined> {
    return await this.#deps.queue.waiting(name, writeBackRule(name.upstream));
  }

  /** All of them; undefined where they are too many. @throws `QUORUM_LOST` */
  async allWaiting(name: RepositoryId): Promise<readonly WaitingManifest[] | undefined> {
    return await this.#deps.queue.allWaiting(name, writeBackRule(name.upstream));
  }

  /**
   * Queues every tag of the rule's repositories whose shards this origin owns. Every owner does the same under the
   * same ids (`run`), so that each is queued once. Returns how many tags of those that it leads.
   */
  async runAll(ruleName: string, run: { readonly id: string; readonly atMs: number }): Promise<number> {
    const { records, members, queue, tagIndex } = this.#deps;
    const found = this.#deps.targets.get(ruleName);
    if (found === undefined || found.writeBack !== undefined) throw unknownRule(ruleName, this.#deps.targets);
    const { rule, matcher } = found;
    let count = 0;
    for (const repository of await records.repositories(rule.from)) {
      if (!matcher.matchesRepository(rule.from, repository)) continue;
      const name = { upstream: rule.from, repository: parseRepositoryName(repository) };
      if (!queue.owners(name).owners.includes(members.selfId)) continue;
      const wanted: string[] = [];
      for await (const { tag } of tagIndex.list(name))
        if (matcher.matchesTag(rule.from, repository, tag)) wanted.push(tag);
      const entries = wanted.map((tag) => ({
        ...queue.newEntry({ ...name, rule: rule.name, state: 'waiting', kind: 'copy', reference: tag }),
        id: `${run.id}-${digestOf(Buffer.from(`${rule.name}\n${tag}`)).slice(7, 23)}`,
        atMs: run.atMs,
      }));
      await queue.write(entries);
      if (members.leaderOf(shardKey(rule.from, repository)) === members.selfId) count += entries.length;
    }
    this.#wake();
    return count;
  }
}

function isOfBehind({ rule, writeBack }: Target, { upstream }: RepositoryId): boolean {
  return writeBack !== undefined && rule.from === upstream;
}

/** A rule that takes tags away at its target when they go here. */
function takesAway(
  { rule, matcher, writeBack }: Target,
  { upstream, repository }: RepositoryId,
  reference: string,
): boolean {
  return (
    writeBack === undefined &&
    rule.delete &&
    !isDigest(reference) &&
    matcher.matchesTag(upstream, repository, reference)
  );
}

/** The error of a rule that the cluster document does not have. */
function unknownRule(rule: string, targets: ReadonlyMap<string, Target>): CodedError {
  const names = [...targets.keys()].filter((name) => !isWriteBackRule(name)).join(', ') || 'none';
  return new CodedError('REQUEST_INVALID', { message: `no replication rule "${rule}"; there are: ${names}` });
}
